//! AWS MSK IAM: OAUTHBEARER tokens that are requests to AWS, signed and not sent (SigV4, presigned).
//!
//! The form of a token is that of AWS's own signers (aws-msk-iam-sasl-signer-java and its siblings): base64url, without
//! padding, of `https://kafka.<region>.amazonaws.com/?Action=kafka-cluster:Connect`, presigned for the service
//! `kafka-cluster` and 900 s, with a `User-Agent` behind the signature.
//!
//! Signature and credentials are AWS's SDK's. The crate that is named aws-msk-iam-sasl-signer adds to these the 50 lines
//! that are here, and a second TLS library: its HTTP client is not optional. The one here is that of the rest of Sluice.

mod http;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant, SystemTime};

use aws_config::sts::AssumeRoleProvider;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::runtime::Runtime;

use super::bearer::{Shown, since_epoch};
use crate::config::{AwsIam, AwsKeys, Secret};

/// How long a token is good for: as long as MSK takes one.
const LIFETIME: Duration = Duration::from_secs(900);
/// How long credentials may take. Longer than the SDK asks a machine for its role, which may be nowhere.
const PATIENCE: Duration = Duration::from_secs(10);
/// Credentials are not asked for more often, be there any or not.
const PAUSE: Duration = Duration::from_secs(10);
/// How many sources of credentials are remembered.
const REMEMBERED: usize = 64;
/// As AWS's signers name it.
const SESSION_NAME: &str = "MSKSASLDefaultSession";

/// Where the credentials of one `aws_msk_iam` are from.
struct Source {
    provider: tokio::sync::OnceCell<SharedCredentialsProvider>,
    last: Mutex<Option<(Instant, Result<Credentials, String>)>>,
}

type Sources = Vec<(AwsIam, Arc<Source>)>;

static SOURCES: LazyLock<Mutex<Sources>> = LazyLock::new(Mutex::default);

/// The source of these credentials: one for all clients that have the same.
fn source(iam: &AwsIam) -> Arc<Source> {
    let mut sources = SOURCES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, known)) = sources.iter().find(|(known, _)| known == iam) {
        return Arc::clone(known);
    }
    if sources.len() >= REMEMBERED {
        sources.remove(0);
    }
    let made = Arc::new(Source {
        provider: tokio::sync::OnceCell::new(),
        last: Mutex::default(),
    });
    sources.push((iam.clone(), Arc::clone(&made)));
    made
}

/// A token, signed now. Blocks until there are credentials, for 10 s at most.
///
/// # Errors
/// There are none, in words without secrets.
pub(super) fn token(iam: &AwsIam, now: SystemTime) -> Result<Shown, String> {
    let credentials = credentials(iam)?;
    let mut until = now + LIFETIME;
    if let Some(ends) = credentials.expiry() {
        if ends <= now {
            let ends = humantime::format_rfc3339_seconds(ends);
            return Err(format!("AWS's credentials expired at {ends}"));
        }
        until = until.min(ends);
    }
    Ok(Shown {
        token: Secret::new(signed(&iam.region, credentials, now)?),
        until_ms: i64::try_from(since_epoch(until).as_millis()).unwrap_or(i64::MAX),
        principal: "sluice".to_owned(),
    })
}

/// The thread that asks for credentials. It is started when the first are needed, and ends with the process.
fn runtime() -> Result<&'static Runtime, String> {
    static RUNTIME: LazyLock<Result<Runtime, String>> = LazyLock::new(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("aws-credentials")
            .enable_all()
            .build()
            .map_err(|error| format!("cannot start the thread that asks for AWS's credentials: {error}"))
    });
    RUNTIME.as_ref().map_err(Clone::clone)
}

fn credentials(iam: &AwsIam) -> Result<Credentials, String> {
    let source = source(iam);
    // Whoever comes second waits for the first one's answer.
    let mut last = source.last.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((at, known)) = &*last
        && at.elapsed() < PAUSE
    {
        return known.clone();
    }
    let (told, answer) = mpsc::sync_channel(1);
    let (asked, iam) = (Arc::clone(&source), iam.clone());
    let _runs_by_itself = runtime()?.spawn(async move {
        let provider = asked
            .provider
            .get_or_try_init(async || provider(&iam).await)
            .await;
        let found = match provider {
            Ok(provider) => provider
                .provide_credentials()
                .await
                .map_err(|error| words(&error)),
            Err(why) => Err(why),
        };
        // Nobody waits any more.
        let _too_late = told.send(found);
    });
    let found = answer
        .recv_timeout(PATIENCE)
        .unwrap_or_else(|_| Err(format!("no AWS credentials within {} s", PATIENCE.as_secs())));
    *last = Some((Instant::now(), found.clone()));
    found
}

/// What is wrong with credentials. The SDK's sources of an error name profiles, files and addresses, and no secrets; the
/// last one says most.
fn words(error: &CredentialsError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    let text: String = text.chars().filter(|c| !c.is_control()).take(500).collect();
    format!("no AWS credentials: {text}")
}

async fn provider(iam: &AwsIam) -> Result<SharedCredentialsProvider, String> {
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http::client()?)
        .region(Region::new(iam.region.clone()));
    if let Some(profile) = &iam.profile {
        loader = loader.profile_name(profile);
        // By itself the SDK would have the environment's keys before those of a profile that is named.
        let provider = aws_config::profile::ProfileFileCredentialsProvider::builder()
            .profile_name(profile)
            .configure(
                &aws_config::provider_config::ProviderConfig::default()
                    .with_http_client(http::client()?)
                    .with_region(Some(Region::new(iam.region.clone()))),
            )
            .build();
        loader = loader.credentials_provider(provider);
    }
    if let Some(AwsKeys {
        id,
        secret,
        session_token,
    }) = &iam.keys
    {
        loader = loader.credentials_provider(Credentials::new(
            id.expose(),
            secret.expose(),
            session_token.as_ref().map(|token| token.expose().to_owned()),
            None,
            "configuration",
        ));
    }
    let sdk = loader.load().await;
    let Some(role) = &iam.role else {
        return sdk
            .credentials_provider()
            .ok_or_else(|| "the AWS SDK has no source of credentials".to_owned());
    };
    let sdk = match &role.sts_endpoint {
        Some(url) => sdk.to_builder().endpoint_url(url).build(),
        None => sdk,
    };
    let region = role.sts_region.as_ref().unwrap_or(&iam.region);
    let mut assumed = AssumeRoleProvider::builder(&role.arn)
        .configure(&sdk)
        .region(Region::new(region.clone()))
        .session_name(role.session_name.as_deref().unwrap_or(SESSION_NAME));
    if let Some(id) = &role.external_id {
        assumed = assumed.external_id(id.expose());
    }
    Ok(SharedCredentialsProvider::new(assumed.build().await))
}

/// A token in its form.
fn signed(region: &str, credentials: Credentials, now: SystemTime) -> Result<String, String> {
    let url = format!("https://kafka.{region}.amazonaws.com/?Action=kafka-cluster%3AConnect");
    let url = presigned(&url, (region, "kafka-cluster"), credentials, now, LIFETIME)?;
    let agent = concat!("sluice%2F", env!("CARGO_PKG_VERSION"));
    Ok(URL_SAFE_NO_PAD.encode(format!("{url}&User-Agent={agent}")))
}

/// A URL with a query, signed for a service in a region.
///
/// # Errors
/// The SDK cannot sign it.
fn presigned(
    url: &str,
    (region, service): (&str, &str),
    credentials: Credentials,
    now: SystemTime,
    lifetime: Duration,
) -> Result<String, String> {
    let failed = |what: &dyn std::fmt::Display| format!("the AWS SDK signs no token: {what}");
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(lifetime);
    let identity = credentials.into();
    let params = SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(service)
        .time(now)
        .settings(settings)
        .build()
        .map_err(|error| failed(&error))?;
    let request = SignableRequest::new("GET", url, std::iter::empty(), SignableBody::Bytes(&[]))
        .map_err(|error| failed(&error))?;
    let (instructions, _) = sign(request, &params.into())
        .map_err(|error| failed(&error))?
        .into_parts();
    let more = |(name, value): &(&str, Cow<'_, str>)| {
        let value: String = form_urlencoded::byte_serialize(value.as_bytes()).collect();
        format!("&{name}={value}")
    };
    let query: String = instructions.params().iter().map(more).collect();
    Ok(format!("{url}{query}"))
}
