//! The response store in both forms, a file and Redis: what is kept comes back unharmed or not at
//! all, for its key, in its time, within its bounds.

mod faults;
mod file;
mod forms;
mod redis_form;
mod tls;
#[path = "../valkey/mod.rs"]
mod valkey;
