//! HTTP calls of the filter: really made, over TCP, to what the test put behind the cluster.

use std::time::Duration;

use crate::maps::Pairs;

/// A call that the filter dispatched.
#[derive(Debug, Clone)]
pub struct HttpCall {
    /// The token that the filter knows it by.
    pub token: u32,
    /// The root context that it belongs to.
    pub root: u32,
    /// Envoy's name of the cluster.
    pub cluster: String,
    /// The request headers.
    pub headers: Pairs,
    /// The request body.
    pub body: Vec<u8>,
    /// The filter's bound on how long it takes; `None` is none.
    pub timeout: Option<Duration>,
}

/// What a call came back with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Empty: the call was reset, and there is nothing.
    pub(crate) headers: Pairs,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// An answer that Envoy makes up itself.
    pub(crate) fn local(status: u16, body: &str) -> Self {
        let headers = [
            (":status", status.to_string()),
            ("content-length", body.len().to_string()),
            ("content-type", "text/plain".to_owned()),
        ];
        let headers = headers.into_iter().map(|(n, v)| (n.into(), v.into())).collect();
        Self {
            headers,
            body: body.into(),
        }
    }

    /// The answer to a call that outlived its timeout.
    pub(crate) fn timeout() -> Self {
        Self::local(504, "upstream request timeout")
    }

    /// The call was reset: Envoy's callback has no headers then.
    pub(crate) fn reset() -> Self {
        Self::default()
    }
}

/// How long a real call may take before the test is broken, whatever the filter's fake clock says.
const PATIENCE_S: u64 = 20;

/// Makes the call. Where nobody answers, the answer is the one that Envoy's router gives.
pub(crate) fn perform(call: &HttpCall, authority: &str) -> Answer {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let header = |name: &str| {
        let found = call.headers.iter().find(|(n, _)| n == name.as_bytes());
        found.map(|(_, v)| text(v)).unwrap_or_default()
    };
    let method = minreq::Method::Custom(header(":method"));
    let mut request = minreq::Request::new(method, format!("http://{authority}{}", header(":path")))
        .with_timeout(PATIENCE_S)
        .with_follow_redirects(false)
        .with_body(call.body.clone());
    for (name, value) in call.headers.iter().filter(|(n, _)| !n.starts_with(b":")) {
        request = request.with_header(text(name), text(value));
    }
    let response = match request.send() {
        Ok(response) => response,
        Err(minreq::Error::IoError(e)) if e.kind() == std::io::ErrorKind::ConnectionRefused => {
            return Answer::local(
                503,
                &before_headers("remote connection failure, transport failure reason: "),
            );
        }
        Err(_) => return Answer::local(503, &before_headers("connection termination")),
    };
    let mut headers: Pairs = vec![(":status".into(), response.status_code.to_string().into())];
    headers.extend(
        response
            .headers
            .iter()
            .map(|(n, v)| (n.to_lowercase().into(), v.clone().into())),
    );
    Answer {
        headers,
        body: response.into_bytes(),
    }
}

fn before_headers(reason: &str) -> String {
    format!("upstream connect error or disconnect/reset before headers. reset reason: {reason}")
}
