//! Free ports. Prefer port 0 and asking the process where it listens; this is for what must be told
//! a port, and for addresses where nothing may answer.

use std::net::{Ipv4Addr, TcpListener};

/// A port of the loopback that was free a moment ago. Another process may take it: callers that
/// hand it on must treat a failed bind as a reason to try again.
pub fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}
