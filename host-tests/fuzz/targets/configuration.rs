//! A plugin configuration, as text or as a serialized protobuf: accepted whole or refused with the
//! path of a field, and one that is accepted runs.

#![no_main]

use farthing_core::config::Config;
use farthing_core::exchange::Vm;
use farthing_core::metrics;
use libfuzzer_sys::fuzz_target;

/// A message is for an operator's log: a configuration of a mebibyte must not fill it.
const MESSAGE_BYTES_MAX: usize = 4 << 10;

fuzz_target!(|input: &[u8]| {
    match Config::parse(input) {
        Ok(config) => {
            assert!(!metrics::definitions(&config).is_empty());
            let vm = Vm::new(config);
            assert!(vm.tick_ms() < u64::MAX);
        }
        Err(error) => {
            let message = error.to_string();
            assert!(
                !message.is_empty() && message.len() <= MESSAGE_BYTES_MAX,
                "{message}"
            );
        }
    }
});
