//! What models are computed on, said in one line of the log.

use std::fmt::Display;

use farthing_kernels::cuda::{CudaError, FoundCard};

use super::log;

/// Looks for a CUDA card and says what was found. Models run on the CPU whatever that is: the
/// engine does not use cards yet.
pub fn announce() {
    let found = FoundCard::find(0);
    let fields = fields(&found);
    let fields: Vec<(&str, &dyn Display)> = fields
        .iter()
        .map(|(key, value)| (*key, value as &dyn Display))
        .collect();
    log::event("device", &fields);
}

fn fields(found: &Result<FoundCard, CudaError>) -> Vec<(&'static str, String)> {
    let mut fields = vec![("device", "cpu".to_owned())];
    let reason = match found {
        Ok(found) => {
            let (major, minor) = found.properties.capability;
            let cuda = found.cuda_version;
            fields.push(("card", found.properties.name.clone()));
            fields.push(("capability", format!("{major}.{minor}")));
            fields.push(("cuda", format!("{}.{}", cuda / 1_000, cuda % 1_000 / 10)));
            fields.extend(found.driver.clone().map(|driver| ("driver", driver)));
            "the engine does not use cards yet".to_owned()
        }
        Err(error) => error.to_string(),
    };
    fields.push(("reason", format!("{reason}; models run on the CPU")));
    fields
}

#[cfg(test)]
mod tests {
    use farthing_kernels::cuda::{CudaError, FoundCard, Properties};

    use super::fields;

    fn said(found: Result<FoundCard, CudaError>) -> String {
        let fields = fields(&found);
        let said = fields.iter().map(|(key, value)| format!("{key}={value}"));
        said.collect::<Vec<String>>().join(" ")
    }

    #[test]
    fn a_card_is_named_with_its_driver() {
        let found = FoundCard {
            properties: Properties {
                name: "NVIDIA H100 80GB HBM3".to_owned(),
                capability: (9, 0),
                multiprocessors: 132,
                shared_bytes_max: 227 << 10,
                l2_bytes: 50 << 20,
            },
            cuda_version: 13_010,
            driver: Some("580.159.04".to_owned()),
        };
        let expected = "device=cpu card=NVIDIA H100 80GB HBM3 capability=9.0 cuda=13.1 \
            driver=580.159.04 reason=the engine does not use cards yet; models run on the CPU";
        assert_eq!(said(Ok(found)), expected);
    }

    #[test]
    fn no_card_is_a_reason_that_ends_alike() {
        for (error, reason) in [
            (
                CudaError::NoDriver,
                "no CUDA driver: libcuda is not on this machine",
            ),
            (
                CudaError::DriverTooOld {
                    found: 12_040,
                    needed: 13_000,
                },
                "the CUDA driver is too old: it speaks CUDA 12.4, 13.0 is needed",
            ),
        ] {
            let expected = format!("device=cpu reason={reason}; models run on the CPU");
            assert_eq!(said(Err(error)), expected);
        }
    }
}
