//! A request as the filter sees it.

/// The head of a request: Envoy's header map, pseudo-headers included, as bytes, and what Envoy knows of it
/// besides.
///
/// Names are lower case. Nothing is assumed to be UTF-8.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    headers: &'a [(&'a [u8], &'a [u8])],
    client: u64,
    metadata: &'a [u8],
}

impl<'a> Head<'a> {
    /// The head made of `headers`, in the order received.
    pub fn new(headers: &'a [(&'a [u8], &'a [u8])]) -> Self {
        Self {
            headers,
            client: 0,
            metadata: b"",
        }
    }

    /// The same of a request whose client is known by that number.
    pub fn of_client(self, client: u64) -> Self {
        Self { client, ..self }
    }

    /// What the client is known by; 0 if it is not told apart.
    pub fn client(&self) -> u64 {
        self.client
    }

    /// The same of a request with that dynamic metadata, a serialised `envoy.config.core.v3.Metadata`.
    pub fn with_metadata(self, metadata: &'a [u8]) -> Self {
        Self { metadata, ..self }
    }

    /// What [`Head::with_metadata`] gave; empty if it was not needed.
    pub fn metadata(&self) -> &'a [u8] {
        self.metadata
    }

    /// All headers, pseudo-headers (`:method`, `:path`, `:authority`, `:scheme`) included.
    pub fn all(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        self.headers.iter().copied()
    }

    /// The first header of that name (lower case), or `None`.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.all().find(|(n, _)| *n == name.as_bytes()).map(|(_, v)| v)
    }

    /// The request method; empty if Envoy has none.
    pub fn method(&self) -> &'a [u8] {
        self.get(":method").unwrap_or_default()
    }

    /// The request target, path with query.
    pub fn target(&self) -> &'a [u8] {
        self.get(":path").unwrap_or_default()
    }

    /// The path, without the query.
    pub fn path(&self) -> &'a [u8] {
        self.target().split(|b| *b == b'?').next().unwrap_or_default()
    }

    /// What follows the first `?` of the target; `None` if there is no `?`.
    pub fn query(&self) -> Option<&'a [u8]> {
        let target = self.target();
        let at = target.iter().position(|b| *b == b'?')?;
        target.get(at + 1..)
    }

    /// The host, as the `host` header or `:authority` names it.
    pub fn host(&self) -> &'a [u8] {
        self.get(":authority")
            .or_else(|| self.get("host"))
            .unwrap_or_default()
    }
}
