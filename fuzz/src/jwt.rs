//! Keys that an issuer publishes, tokens that anybody brings, and what their claims make of a topic's name.

use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Map, Value};
use sluice::auth::claims::Name;
use sluice::auth::jwt::{ALGORITHMS, Jwks, Provider, Refusal, Settings, parsers};
use sluice::config::{Template, TopicAllowlist, check_topic};

/// Any set is read or refused, in words that stay on one line and are bounded; a key of it that is used has an algorithm that
/// has no secret key.
pub(crate) fn keys(bytes: &[u8]) {
    match parsers::keys(bytes) {
        Ok(keys) => {
            assert!(!keys.is_empty() && keys.len() <= 100);
            for algorithms in keys {
                assert!(!algorithms.is_empty());
                let listed = |one| ALGORITHMS.iter().any(|(_, known)| known == one);
                assert!(algorithms.iter().all(listed), "{algorithms:?}");
            }
        }
        Err(why) => assert!(
            why.chars().count() < 300 && !why.contains(char::is_control),
            "{why:?}"
        ),
    }
}

/// Nobody has the key's other half: no token is taken, and what is said of it has nothing of it, and is bounded.
pub(crate) fn token(bytes: &[u8]) {
    static PROVIDER: OnceLock<(Provider, tokio::runtime::Runtime)> = OnceLock::new();
    let (provider, runtime) = PROVIDER.get_or_init(|| {
        let file = std::env::temp_dir().join(format!("sluice-fuzz-{}.jwks", std::process::id()));
        std::fs::write(&file, KEYS).unwrap();
        let settings = Settings {
            name: "p".to_owned(),
            issuer: "i".to_owned(),
            audiences: Vec::new(),
            jwks: Jwks::File(file),
            algorithms: ALGORITHMS.iter().map(|(_, algorithm)| *algorithm).collect(),
            clock_skew: Duration::ZERO,
            name_claim: Name::parse("sub").unwrap(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        (Provider::new(settings), runtime.unwrap())
    });
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let named = provider.is_named_by(text);
    match runtime.block_on(provider.verify(text)) {
        Err(Refusal::Token(why)) => {
            assert!(
                why.len() < 200 && !why.contains(char::is_control),
                "{named} {why:?}"
            );
        }
        other => panic!("{other:?}"),
    }
}

/// The first test vector of RFC 8037 (appendix A.2), and that of RFC 7517 (appendix A.1) on P-256.
const KEYS: &str = r#"{"keys": [
    {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
    {"kty": "EC", "crv": "P-256", "kid": "1", "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
     "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}"#;

/// A template, a line's end, and what its claims say: the names that come out are of topics, differ from the template in the
/// places of its claims only, and let nobody read what is another's.
pub(crate) fn template(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Some((template, value)) = text.split_once('\n') else {
        return;
    };
    // One without a claim is no template: it says the same to everybody.
    let Some(parsed) = Template::parse(template).ok().filter(|_| template.contains('{')) else {
        return;
    };
    let say = |value: &str| {
        let mut claims = Map::new();
        for part in template.split("{claims.").skip(1) {
            let name = part.split('}').next().unwrap_or_default();
            claims.insert(name.to_owned(), Value::from(value));
        }
        parsed.fill(&claims)
    };
    let names = say(value);
    assert!(names.len() <= 1, "{names:?}");
    for name in &names {
        assert!(
            check_topic(name.strip_suffix('*').unwrap_or(name)).is_ok() || name.len() > 249,
            "{name:?}"
        );
        assert_eq!(name.ends_with('*'), template.ends_with('*'));
        // Who is called otherwise reads nothing of it, unless the name is the same.
        let other = format!("{value}x");
        let theirs = TopicAllowlist(say(&other));
        let own = name.replace('*', "topic");
        assert!(!theirs.allows(&own), "{own} by {other}");
    }
}
