//! The root context: reads the configuration once and makes one stream context a request.

use crate::embedded::VOCABULARIES;
use crate::filter::Filter;
use crate::host;
use crate::worker::Worker;
use farthing_core::config::Config;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{ContextType, LogLevel};
use std::rc::Rc;

pub struct Root {
    context_id: u32,
    /// Empty until a configuration was accepted; Envoy sends no stream before that.
    worker: Option<Rc<Worker>>,
}

impl Root {
    pub fn new(context_id: u32) -> Root {
        Root {
            context_id,
            worker: None,
        }
    }
}

impl Context for Root {
    /// Only keeps what came, for the next tick to read: a trap in here would leave every stream of
    /// this worker hanging.
    fn on_http_call_response(
        &mut self,
        callout: u32,
        headers: usize,
        body_bytes: usize,
        _trailers: usize,
    ) {
        if let Some(worker) = &self.worker {
            worker.on_vocabulary(callout, headers, body_bytes);
        }
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, plugin_configuration_size: usize) -> bool {
        let bytes = host::plugin_configuration(plugin_configuration_size);
        let names: Vec<&str> = VOCABULARIES.iter().map(|(name, _)| *name).collect();
        let checked = Config::parse(&bytes).and_then(|config| {
            config.check_vocabularies(&names)?;
            Ok(config)
        });
        match checked {
            Ok(config) => {
                let worker = Worker::new(self.context_id, config);
                worker.read_embedded_vocabularies();
                worker.set_tick();
                self.worker = Some(Rc::new(worker));
                true
            }
            Err(error) => {
                // Envoy only says that the plugin refused; which field it was, only we know.
                host::log(
                    LogLevel::Critical,
                    &format!("configuration refused: {error}"),
                );
                false
            }
        }
    }

    fn on_tick(&mut self) {
        if let Some(worker) = &self.worker {
            worker.on_tick();
        }
    }

    fn create_http_context(&self, context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Filter::new(context_id, self.worker.clone())))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}
