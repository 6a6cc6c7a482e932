//! The AWS SDK's requests, over the HTTP and the TLS that the rest of Sluice has.

use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::http::Response;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_openssl::client::legacy::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as Tcp;
use hyper_util::rt::TokioExecutor;

/// No answer with credentials is longer.
const LONGEST: usize = 1 << 20;
/// How long an answer may take where the SDK sets no limit.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone)]
struct Connector {
    client: Client<HttpsConnector<Tcp>, Full<Bytes>>,
    limit: Duration,
}

/// A client for the SDK.
///
/// # Errors
/// OpenSSL cannot be set up.
pub(super) fn client() -> Result<SharedHttpClient, String> {
    let https = HttpsConnector::new().map_err(|error| format!("TLS for AWS: {error}"))?;
    let client = Client::builder(TokioExecutor::new()).build(https);
    Ok(http_client_fn(move |settings, _| {
        let limit = match (settings.connect_timeout(), settings.read_timeout()) {
            (None, None) => PATIENCE,
            (connect, read) => connect.unwrap_or_default() + read.unwrap_or(PATIENCE),
        };
        SharedHttpConnector::new(Connector {
            client: client.clone(),
            limit,
        })
    }))
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let Self { client, limit } = self.clone();
        HttpConnectorFuture::new(async move {
            match tokio::time::timeout(limit, send(client, request)).await {
                Ok(answer) => answer,
                Err(elapsed) => Err(ConnectorError::timeout(elapsed.into())),
            }
        })
    }
}

async fn send(
    client: Client<HttpsConnector<Tcp>, Full<Bytes>>,
    request: HttpRequest,
) -> Result<Response<SdkBody>, ConnectorError> {
    let request = request
        .try_into_http1x()
        .map_err(|error| ConnectorError::user(error.into()))?;
    let (head, body) = request.into_parts();
    let Some(body) = body.bytes() else {
        return Err(ConnectorError::user("a request's body is a stream".into()));
    };
    let request = hyper::Request::from_parts(head, Full::new(Bytes::copy_from_slice(body)));
    let answer = client
        .request(request)
        .await
        .map_err(|error| ConnectorError::io(error.into()))?;
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, LONGEST)
        .collect()
        .await
        .map_err(ConnectorError::io)?;
    let answer = hyper::Response::from_parts(head, SdkBody::from(body.to_bytes()));
    Response::try_from(answer).map_err(|error| ConnectorError::other(error.into(), None))
}
