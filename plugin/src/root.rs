//! The root context: reads the configuration once and makes one stream context a request.

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

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, plugin_configuration_size: usize) -> bool {
        match Config::parse(&host::plugin_configuration(plugin_configuration_size)) {
            Ok(config) => {
                self.worker = Some(Rc::new(Worker::new(self.context_id, config)));
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
