//! The bytes of a request, made once. What differs from one to the next are twelve digits, written
//! in place.

/// Digits of the number that makes a request unlike every other.
const SERIAL_DIGITS: usize = 12;
/// What stands for them in a body.
pub const SERIAL: &str = "000000000000";

/// A request to send again and again.
#[derive(Clone)]
pub struct Request {
    bytes: Vec<u8>,
    /// Where the digits are, if each request is to be another.
    serial_at: Option<usize>,
}

impl Request {
    /// The same POST each time.
    pub fn repeated(path: &str, headers: &[(&str, &str)], body: &[u8]) -> Request {
        let mut head = format!("POST {path} HTTP/1.1\r\nhost: bench\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        Request {
            bytes,
            serial_at: None,
        }
    }

    /// A POST that is another each time: the first [`SERIAL`] of the body counts.
    pub fn unique(path: &str, headers: &[(&str, &str)], body: &[u8]) -> Request {
        let mut request = Request::repeated(path, headers, body);
        let body_at = request.bytes.len() - body.len();
        let found = request.bytes[body_at..]
            .windows(SERIAL_DIGITS)
            .position(|digits| digits == SERIAL.as_bytes());
        request.serial_at = found.map(|at| body_at + at);
        request
    }

    /// The bytes of the request with this number.
    pub fn bytes(&mut self, serial: u64) -> &[u8] {
        if let Some(at) = self.serial_at {
            let mut rest = serial;
            for digit in self.bytes[at..at + SERIAL_DIGITS].iter_mut().rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
        }
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::{Request, SERIAL};

    #[test]
    fn only_the_digits_of_the_body_count() {
        let body = format!("a {SERIAL} {SERIAL}");
        let headers = [("x-digits", SERIAL)];
        let mut unique = Request::unique("/p", &headers, body.as_bytes());
        let expected = format!(
            "POST /p HTTP/1.1\r\nhost: bench\r\nx-digits: {SERIAL}\r\ncontent-length: 27\r\n\r\n\
             a 000000000407 {SERIAL}"
        );
        assert_eq!(unique.bytes(407), expected.as_bytes());
        let mut repeated = Request::repeated("/p", &headers, body.as_bytes());
        assert_eq!(repeated.bytes(1).to_vec(), repeated.bytes(2).to_vec());
    }
}
