//! A configuration of `envoy/`, changed structurally: the shipped file is what runs, and only what
//! must differ between two runs (ports, paths, upstreams) is set here.

use crate::{HarnessError, paths};
use serde_yaml_ng::Value;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

/// The name of our HTTP filter in every configuration.
const FILTER_NAME: &str = "farthing";

/// An Envoy bootstrap that can still be changed.
#[derive(Clone, Debug)]
pub struct EnvoyConfig {
    root: Value,
}

impl EnvoyConfig {
    /// Reads a bootstrap file.
    pub fn load(path: &Path) -> Result<EnvoyConfig, HarnessError> {
        let text = fs::read_to_string(path)
            .map_err(HarnessError::io(format!("cannot read {}", path.display())))?;
        let root = serde_yaml_ng::from_str(&text)
            .map_err(|error| HarnessError::Config(format!("{}: {error}", path.display())))?;
        Ok(EnvoyConfig { root })
    }

    /// A configuration of the repository with this machine's filter and free ports.
    pub fn shipped(file_name: &str) -> Result<EnvoyConfig, HarnessError> {
        let mut config = EnvoyConfig::load(&paths::envoy_config(file_name))?;
        config.set_wasm(&paths::require("the filter", paths::wasm())?)?;
        config.set_listener_port(0)?;
        config.set_admin_port(0)?;
        Ok(config)
    }

    /// The bootstrap as YAML.
    pub fn to_yaml(&self) -> Result<String, HarnessError> {
        serde_yaml_ng::to_string(&self.root).map_err(|e| HarnessError::Config(e.to_string()))
    }

    /// The port of the first listener; 0 takes a free one.
    pub fn set_listener_port(&mut self, port: u16) -> Result<(), HarnessError> {
        set_port(self.at("/static_resources/listeners/0/address")?, port)
    }

    /// The port of the admin interface; 0 takes a free one.
    pub fn set_admin_port(&mut self, port: u16) -> Result<(), HarnessError> {
        set_port(self.at("/admin/address")?, port)
    }

    /// Where the filter's module lies.
    pub fn set_wasm(&mut self, path: &Path) -> Result<(), HarnessError> {
        let code = self
            .plugin()?
            .get_mut("vm_config")
            .and_then(|vm| vm.get_mut("code"));
        let local = code
            .and_then(|code| code.get_mut("local"))
            .and_then(Value::as_mapping_mut);
        let local = local.ok_or_else(|| lacks("vm_config.code.local"))?;
        local.insert("filename".into(), path.display().to_string().into());
        Ok(())
    }

    /// The address of the only endpoint of `cluster`.
    pub fn set_upstream(&mut self, cluster: &str, to: SocketAddr) -> Result<(), HarnessError> {
        let clusters = self.at("/static_resources/clusters")?.as_sequence_mut();
        let found = clusters.and_then(|list| list.iter_mut().find(|c| named(c, cluster)));
        let found = found.ok_or_else(|| lacks(&format!("cluster {cluster}")))?;
        let endpoint = pointer(
            found,
            "/load_assignment/endpoints/0/lb_endpoints/0/endpoint",
        );
        let endpoint = endpoint.ok_or_else(|| lacks(&format!("endpoint of {cluster}")))?;
        let socket = pointer(endpoint, "/address/socket_address").and_then(Value::as_mapping_mut);
        let socket = socket.ok_or_else(|| lacks("socket_address"))?;
        socket.insert("address".into(), to.ip().to_string().into());
        socket.insert("port_value".into(), to.port().into());
        Ok(())
    }

    /// The filter's own configuration.
    pub fn plugin_configuration(&mut self) -> Result<&mut Value, HarnessError> {
        pointer(self.plugin()?, "/configuration/value").ok_or_else(|| lacks("configuration.value"))
    }

    /// Sets one field of the filter's own configuration, such as `budget`.
    pub fn set_plugin_field(&mut self, name: &str, value: Value) -> Result<(), HarnessError> {
        let fields = self.plugin_configuration()?.as_mapping_mut();
        let fields = fields.ok_or_else(|| lacks("mapping as plugin configuration"))?;
        fields.insert(name.into(), value);
        Ok(())
    }

    /// The `PluginConfig` of our filter: `root_id`, `failure_policy`, `vm_config` and the rest.
    pub fn plugin(&mut self) -> Result<&mut Value, HarnessError> {
        let filters = self.http_connection_manager()?.get_mut("http_filters");
        let filters = filters.and_then(Value::as_sequence_mut);
        let filter = filters.and_then(|list| list.iter_mut().find(|f| named(f, FILTER_NAME)));
        let filter = filter.ok_or_else(|| lacks("http filter `farthing`"))?;
        pointer(filter, "/typed_config/config").ok_or_else(|| lacks("typed_config.config"))
    }

    /// Lets Envoy read its listeners from elsewhere: there are no static ones any more.
    pub fn set_dynamic_resources(&mut self, resources: Value) -> Result<(), HarnessError> {
        let fixed = self.at("/static_resources")?.as_mapping_mut();
        fixed
            .ok_or_else(|| lacks("static_resources"))?
            .remove("listeners");
        let root = self.root.as_mapping_mut().ok_or_else(|| lacks("root"))?;
        root.insert("dynamic_resources".into(), resources);
        let node = [("id", "farthing-edge"), ("cluster", "farthing-edge")];
        let node = node.map(|(name, value)| (Value::from(name), Value::from(value)));
        root.insert("node".into(), Value::Mapping(node.into_iter().collect()));
        Ok(())
    }

    /// Removes the filter: the same Envoy without us, which benchmarks compare with.
    pub fn remove_filter(&mut self) -> Result<(), HarnessError> {
        let filters = self.http_connection_manager()?.get_mut("http_filters");
        let filters = filters.and_then(Value::as_sequence_mut);
        let filters = filters.ok_or_else(|| lacks("http_filters"))?;
        filters.retain(|filter| !named(filter, FILTER_NAME));
        Ok(())
    }

    /// The `HttpConnectionManager` of the first listener.
    pub fn http_connection_manager(&mut self) -> Result<&mut Value, HarnessError> {
        self.at("/static_resources/listeners/0/filter_chains/0/filters/0/typed_config")
    }

    /// The part at a JSON pointer.
    pub fn at(&mut self, path: &str) -> Result<&mut Value, HarnessError> {
        pointer(&mut self.root, path).ok_or_else(|| lacks(path))
    }
}

fn set_port(address: &mut Value, port: u16) -> Result<(), HarnessError> {
    let socket = address
        .get_mut("socket_address")
        .and_then(Value::as_mapping_mut);
    let socket = socket.ok_or_else(|| lacks("socket_address"))?;
    socket.insert("port_value".into(), port.into());
    Ok(())
}

fn named(value: &Value, name: &str) -> bool {
    value.get("name").and_then(Value::as_str) == Some(name)
}

/// RFC 6901 over YAML; our names need no escapes.
fn pointer<'a>(value: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    path.split('/')
        .filter(|part| !part.is_empty())
        .try_fold(value, |at, part| match part.parse::<usize>() {
            Ok(index) => at.as_sequence_mut()?.get_mut(index),
            Err(_) => at.get_mut(part),
        })
}

fn lacks(what: &str) -> HarnessError {
    HarnessError::Config(format!("this Envoy configuration has no {what}"))
}
