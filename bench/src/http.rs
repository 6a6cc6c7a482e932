//! As much of an HTTP/1.1 client as a load generator needs.

use sluice_e2e::{Context, Result, bail};

/// The most headers that a reply may have.
const MAX_HEADERS: usize = 64;

/// One reply at the start of a buffer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    /// The status code.
    pub(crate) status: u16,
    /// How many bytes the reply takes, head and body.
    pub(crate) len: usize,
}

/// The bytes of a POST of `body`, JSON, to `path`.
///
/// The headers are those that a common client sends.
pub(crate) fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: bench.local\r\nuser-agent: sluice-bench/1\r\naccept: */*\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// The bytes of a GET of `path`.
pub(crate) fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: bench.local\r\nuser-agent: sluice-bench/1\r\naccept: */*\r\n\r\n")
        .into_bytes()
}

/// Reads the reply at the start of `bytes`: `None` until it is there to its end.
///
/// # Errors
/// What is not HTTP/1.1, has no `content-length`, or closes the connection.
pub(crate) fn read_reply(bytes: &[u8]) -> Result<Option<Reply>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head_len) = head.parse(bytes)? else {
        return Ok(None);
    };
    let status = head.code.context("a reply without a status")?;
    let mut body_len = None;
    for header in head.headers.iter() {
        let value = || std::str::from_utf8(header.value).unwrap_or_default().trim();
        if header.name.eq_ignore_ascii_case("content-length") {
            let len = value().parse::<usize>();
            body_len = Some(len.with_context(|| format!("content-length {:?} is not a length", value()))?);
        } else if header.name.eq_ignore_ascii_case("connection") && value().eq_ignore_ascii_case("close") {
            bail!("the server closes the connection with its reply {status}");
        }
    }
    let body_len = body_len.with_context(|| format!("a reply {status} without content-length"))?;
    let len = head_len + body_len;
    Ok((bytes.len() >= len).then_some(Reply { status, len }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLY: &[u8] = b"HTTP/1.1 202 Accepted\r\nContent-Length: 5\r\nserver: envoy\r\n\r\nhello";

    #[test]
    fn a_reply_is_read_once_it_is_whole() {
        for cut in 0..REPLY.len() {
            assert_eq!(read_reply(&REPLY[..cut]).unwrap(), None, "{cut} bytes");
        }
        let whole = Reply {
            status: 202,
            len: REPLY.len(),
        };
        assert_eq!(read_reply(REPLY).unwrap(), Some(whole));
    }

    #[test]
    fn what_follows_a_reply_is_not_its_own() {
        let two = [REPLY, REPLY].concat();
        assert_eq!(read_reply(&two).unwrap().unwrap().len, REPLY.len());
    }

    #[test]
    fn replies_that_cannot_be_counted_are_errors() {
        for (bytes, says) in [
            (
                &b"HTTP/1.1 200 OK\r\nserver: envoy\r\n\r\n"[..],
                "without content-length",
            ),
            (b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", "is not a length"),
            (
                b"HTTP/1.1 503 No\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
                "closes the connection with its reply 503",
            ),
            (b"SSH-2.0-OpenSSH_9.2\r\n", "invalid"),
        ] {
            let error = read_reply(bytes).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn a_request_says_how_long_its_body_is() {
        let bytes = post("/orders", b"{}");
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.starts_with("POST /orders HTTP/1.1\r\nhost: "), "{text}");
        assert!(text.ends_with("\r\ncontent-length: 2\r\n\r\n{}"), "{text}");
    }
}
