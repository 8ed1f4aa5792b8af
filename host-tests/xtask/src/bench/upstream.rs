//! The upstream of the edge benchmark: one answer, one write, and no work besides, so that what is
//! measured is Envoy and the filter.

use farthing_host_tests::http::{self, Framing};
use std::io::{self, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;

/// A complete chat answer with usage, as a small model would give it.
const ANSWER: &str = concat!(
    r#"{"id":"chatcmpl-bench","object":"chat.completion","created":1700000000,"#,
    r#""model":"smollm2-135m-instruct","choices":[{"index":0,"message":{"role":"assistant","#,
    r#""content":"The capital of France is Paris, a city on the Seine known for its museums."},"#,
    r#""logprobs":null,"finish_reason":"stop"}],"#,
    r#""usage":{"prompt_tokens":1000,"completion_tokens":20,"total_tokens":1020}}"#
);

/// Starts the upstream on a free port; it ends with the process.
pub fn start() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Envoy closing a connection is the ordinary end of one.
            thread::spawn(move || drop(serve(stream)));
        }
    });
    Ok(address)
}

fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut from = BufReader::new(stream.try_clone()?);
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{ANSWER}",
        ANSWER.len()
    );
    while let Some(head) = http::read_head(&mut from)? {
        http::read_body(&mut from, http::framing(&head.headers, Framing::Length(0)))?;
        stream.write_all(answer.as_bytes())?;
    }
    Ok(())
}
