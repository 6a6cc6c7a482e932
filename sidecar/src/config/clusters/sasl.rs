//! `authentication:` of a cluster: Kong's fields, and JAAS lines.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use sluice_settings::Section;

use super::{jaas, oidc};
use crate::config::properties::Properties;
use crate::config::read::Context;
use crate::config::secret::{self, Inline};
use crate::config::{BearerToken, Callers, Secret, TokenSource};
use crate::kafka::bearer;

/// That there is an `authentication`.
pub(super) struct Sasl {
    /// The token of OAUTHBEARER.
    pub(super) token: Option<BearerToken>,
    /// The token is the caller's own.
    pub(super) callers: Option<Callers>,
}

/// How many callers have clients at once, unless it is said.
const MAX_CALLERS: i64 = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mechanism {
    Plain,
    Scram256,
    Scram512,
    OauthBearer,
    /// Known to Kafka, and not to Sluice.
    NotYet(&'static str),
}

const MECHANISMS: &[(&str, Mechanism)] = &[
    ("PLAIN", Mechanism::Plain),
    ("SCRAM-SHA-256", Mechanism::Scram256),
    ("SCRAM-SHA-512", Mechanism::Scram512),
    ("OAUTHBEARER", Mechanism::OauthBearer),
    ("GSSAPI", Mechanism::NotYet("GSSAPI (Kerberos)")),
    ("AWS_MSK_IAM", Mechanism::NotYet("AWS MSK IAM")),
];

const DELEGATION: &str = "delegation tokens are not supported yet";
pub(super) fn read(
    section: &Section<'_>,
    properties: &mut Properties,
    context: &Context<'_>,
) -> Option<Sasl> {
    let own = section.section("authentication")?;
    let mut reader = Reader {
        cluster: section,
        own: &own,
        properties,
        context,
    };
    let callers = reader.callers();
    let token = if callers.is_some() { None } else { reader.read() };
    own.finish();
    Some(Sasl { token, callers })
}

struct Reader<'a, 'b> {
    cluster: &'a Section<'b>,
    own: &'a Section<'b>,
    properties: &'a mut Properties,
    context: &'a Context<'a>,
}

impl Reader<'_, '_> {
    /// `credentials: from_request`, and what goes with it.
    fn callers(&mut self) -> Option<Callers> {
        let own = self.own;
        let from_request = own.choice("credentials", &[("from_config", false), ("from_request", true)]);
        if from_request != Some(true) {
            own.refuse("max_callers", "belongs to `credentials: from_request`");
            return None;
        }
        own.choice("strategy", &[("sasl", ())]);
        if own.choice("mechanism", MECHANISMS) != Some(Mechanism::OauthBearer) {
            own.problem(
                "mechanism",
                "must be OAUTHBEARER with `credentials: from_request`",
            );
        }
        for key in ["user", "password", "oauthbearer", "sasl_jaas_config", "tokenauth"] {
            own.refuse(
                key,
                "means nothing with `credentials: from_request`: the caller's token says who it is",
            );
        }
        let max = own.integer("max_callers", 1..=10_000).unwrap_or(MAX_CALLERS);
        self.set("mechanism", "sasl.mechanism", name(Mechanism::OauthBearer));
        Some(Callers {
            max: usize::try_from(max).unwrap_or_default(),
        })
    }

    fn read(&mut self) -> Option<BearerToken> {
        let own = self.own;
        own.choice("strategy", &[("sasl", ())]);
        let mechanism = own.choice("mechanism", MECHANISMS);
        if own.bool("tokenauth") == Some(true) {
            own.problem("tokenauth", DELEGATION);
        }
        if own.raw("sasl_jaas_config").is_some() {
            for key in ["user", "password", "oauthbearer"] {
                own.refuse(key, "is what `sasl_jaas_config` says: keep one");
            }
            let line = secret::field(own, "sasl_jaas_config", Inline::Warned, self.context)?;
            return self.jaas(mechanism, &line);
        }
        let Some(mechanism) = mechanism else {
            if own.raw("mechanism").is_none() {
                own.problem(
                    "mechanism",
                    "is required: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER",
                );
            }
            return None;
        };
        match mechanism {
            Mechanism::Plain | Mechanism::Scram256 | Mechanism::Scram512 => {
                own.refuse("oauthbearer", "belongs to `mechanism: OAUTHBEARER`");
                for key in ["user", "password"] {
                    if own.raw(key).is_none() {
                        own.problem(key, format!("is required by {}", name(mechanism)));
                    }
                }
                let user = secret::field(own, "user", Inline::Fine, self.context);
                let password = secret::field(own, "password", Inline::Warned, self.context);
                self.login(mechanism, ("user", user?), ("password", password?));
                None
            }
            Mechanism::OauthBearer => {
                for key in ["user", "password"] {
                    own.refuse(key, "means nothing with OAUTHBEARER: its token says who it is");
                }
                self.set("mechanism", "sasl.mechanism", name(mechanism));
                let Some(bearer) = own.section("oauthbearer") else {
                    if own.raw("oauthbearer").is_none() {
                        own.problem(
                            "oauthbearer",
                            "is required by OAUTHBEARER, as {token_file: /run/token}",
                        );
                    }
                    return None;
                };
                let token = self.bearer(&bearer);
                bearer.finish();
                token
            }
            Mechanism::NotYet(what) => {
                own.problem("mechanism", format!("{what} is not supported yet"));
                for key in ["user", "password", "oauthbearer"] {
                    own.raw(key);
                }
                None
            }
        }
    }

    fn set(&mut self, key: &str, property: &str, value: &str) {
        let key = format!("authentication.{key}");
        self.properties
            .set(self.cluster, &key, property, value.to_owned());
    }

    fn login(&mut self, mechanism: Mechanism, user: (&str, Secret), password: (&str, Secret)) {
        let key = if user.0 == "user" { "mechanism" } else { user.0 };
        self.set(key, "sasl.mechanism", name(mechanism));
        self.set(user.0, "sasl.username", user.1.expose());
        self.set(password.0, "sasl.password", password.1.expose());
    }

    /// `oauthbearer:`.
    fn bearer(&self, section: &Section<'_>) -> Option<BearerToken> {
        section.refuse(
            "credentials",
            "goes one level up, as `authentication: {mechanism: OAUTHBEARER, credentials: from_request}`",
        );
        let extensions: BTreeMap<String, String> = section
            .scalars("extensions")
            .unwrap_or_default()
            .into_iter()
            .collect();
        for (name, value) in &extensions {
            if !bearer::is_extension(name, value) {
                section.problem(
                    &format!("extensions.{name}"),
                    "must have a name of letters, other than `auth`, and a printable value (RFC 7628)",
                );
            }
        }
        if section.raw("token_endpoint_url").is_some() {
            for key in ["token", "token_file"] {
                section.refuse(key, "is the same as `token_endpoint_url`: keep one");
            }
            let source = oidc::read(section, self.context)?;
            return Some(BearerToken { source, extensions });
        }
        for key in oidc::FIELDS {
            section.refuse(key, "belongs to `token_endpoint_url`, which is missing");
        }
        let token = secret::field(section, "token", Inline::Warned, self.context);
        let file = section.name("token_file");
        let source = match (section.raw("token"), section.raw("token_file")) {
            (Some(_), Some(_)) => {
                section.problem("token_file", "is the same as `token`: keep one");
                return None;
            }
            (None, None) => {
                section.problem(
                    "token_file",
                    "is missing: OAUTHBEARER needs it, or `token`, or `token_endpoint_url`",
                );
                return None;
            }
            (Some(_), None) => {
                let token = token?;
                if let Err(why) = bearer::check(token.expose(), SystemTime::now()) {
                    section.problem("token", why);
                }
                TokenSource::Fixed(token)
            }
            (None, Some(_)) => {
                let file = PathBuf::from(file?);
                match bearer::read_file(&file) {
                    Err(why) => section.problem("token_file", why),
                    // It may be written anew before anybody needs it.
                    Ok(token) => {
                        if let Err(why) = bearer::check(&token, SystemTime::now()) {
                            self.context.warnings.report(section.path_of("token_file"), why);
                        }
                    }
                }
                TokenSource::File(file)
            }
        };
        Some(BearerToken { source, extensions })
    }

    /// `sasl_jaas_config`, Gravitee's and every Java client's.
    fn jaas(&mut self, mechanism: Option<Mechanism>, line: &Secret) -> Option<BearerToken> {
        const KEY: &str = "sasl_jaas_config";
        let own = self.own;
        let problem = |why: &str| own.problem(KEY, why);
        let jaas::Line { module, mut options } =
            jaas::parse(line.expose()).map_err(|why| problem(&why)).ok()?;
        let mut take = |name: &str| options.remove(name);
        let (fits, meant): (&[Mechanism], _) = match module.as_str() {
            "PlainLoginModule" => (&[Mechanism::Plain], Some(Mechanism::Plain)),
            "ScramLoginModule" => (&[Mechanism::Scram256, Mechanism::Scram512], None),
            "OAuthBearerLoginModule" => (&[Mechanism::OauthBearer], Some(Mechanism::OauthBearer)),
            "IAMLoginModule" => {
                problem("AWS MSK IAM is not supported yet");
                return None;
            }
            "Krb5LoginModule" => {
                problem("GSSAPI (Kerberos) is not supported yet");
                return None;
            }
            _ => {
                problem(
                    "has a login module that is not known; known are PlainLoginModule, ScramLoginModule and \
                     OAuthBearerLoginModule",
                );
                return None;
            }
        };
        let Some(mechanism) = mechanism.or(meant) else {
            own.problem(
                "mechanism",
                "is required by ScramLoginModule: SCRAM-SHA-256 or SCRAM-SHA-512",
            );
            return None;
        };
        if !fits.contains(&mechanism) {
            own.problem("mechanism", format!("is not what the {module} of {KEY} is for"));
            return None;
        }
        if mechanism != Mechanism::OauthBearer {
            if take("tokenauth").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
                problem(DELEGATION);
                return None;
            }
            let (user, password) = (take("username"), take("password"));
            self.no_more(&options);
            let (Some(user), Some(password)) = (user, password) else {
                problem("needs the options `username` and `password`");
                return None;
            };
            self.login(mechanism, (KEY, Secret::new(user)), (KEY, Secret::new(password)));
            return None;
        }
        self.set(KEY, "sasl.mechanism", name(mechanism));
        let principal = take("unsecuredLoginStringClaim_sub");
        let lifetime = take("unsecuredLoginLifetimeSeconds");
        if options.contains_key("clientId") || options.contains_key("clientSecret") {
            if principal.is_some() || lifetime.is_some() {
                problem("has options of an issuer and of unsigned tokens: keep one");
            }
            self.properties.is_read(oidc::ENDPOINT);
            let found = oidc::jaas(self.cluster, &mut options, self.context);
            let (source, extensions) = found.map_err(|why| problem(&why)).ok()?;
            self.no_more(&options);
            if let Some((name, _)) = extensions
                .iter()
                .find(|(name, value)| !bearer::is_extension(name, value))
            {
                problem(&format!(
                    "has an extension {name:?} that must have a name of letters, other than `auth`, and a printable value"
                ));
            }
            return Some(BearerToken { source, extensions });
        }
        self.no_more(&options);
        let Some(principal) = principal else {
            problem(
                "needs the options `clientId` and `clientSecret`, or `unsecuredLoginStringClaim_sub`; a token of your own goes to `oauthbearer`, \
                 without `sasl_jaas_config`",
            );
            return None;
        };
        // Kafka's own default.
        let lifetime = lifetime.map_or(Some(3600), |text| {
            text.parse().ok().filter(|n| (1..=31_536_000).contains(n))
        });
        let Some(lifetime) = lifetime else {
            problem("has an `unsecuredLoginLifetimeSeconds` that is not from 1 to 31536000");
            return None;
        };
        self.context.warnings.report(
            own.path_of(KEY),
            "makes tokens that nobody signs: whoever reaches the brokers can say to be anybody",
        );
        Some(BearerToken {
            source: TokenSource::Unsecured {
                principal,
                lifetime: Duration::from_secs(lifetime),
            },
            extensions: BTreeMap::new(),
        })
    }

    fn no_more(&self, options: &BTreeMap<String, String>) {
        for name in options.keys() {
            let shown = name
                .chars()
                .all(|c| c.is_ascii_alphabetic() || matches!(c, '_' | '.'));
            let shown = if shown { name } else { "(not shown)" };
            self.own.problem(
                "sasl_jaas_config",
                format!("has an option that is not known: {shown}"),
            );
        }
    }
}

fn name(mechanism: Mechanism) -> &'static str {
    let found = MECHANISMS.iter().find(|(_, one)| *one == mechanism);
    found.map_or("", |(name, _)| name)
}
