//! `authentication:` of a cluster: Kong's fields, and JAAS lines.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use sluice_settings::Section;

use super::{aws, jaas};
use crate::config::properties::Properties;
use crate::config::read::Context;
use crate::config::secret::{self, Inline};
use crate::config::{AwsIam, BearerToken, DelegationToken, ScramHash, Secret, TokenSource};
use crate::kafka::{bearer, relay};

/// What `authentication` gives that is no property.
#[derive(Default)]
pub(super) struct Sasl {
    /// The token of OAUTHBEARER.
    pub(super) token: Option<BearerToken>,
    /// The delegation token.
    pub(super) delegation: Option<DelegationToken>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mechanism {
    Plain,
    Scram256,
    Scram512,
    OauthBearer,
    /// OAUTHBEARER with a token of AWS's kind.
    AwsMskIam,
    /// Known to Kafka, and not to Sluice.
    NotYet(&'static str),
}

const MECHANISMS: &[(&str, Mechanism)] = &[
    ("PLAIN", Mechanism::Plain),
    ("SCRAM-SHA-256", Mechanism::Scram256),
    ("SCRAM-SHA-512", Mechanism::Scram512),
    ("OAUTHBEARER", Mechanism::OauthBearer),
    ("GSSAPI", Mechanism::NotYet("GSSAPI (Kerberos)")),
    ("AWS_MSK_IAM", Mechanism::AwsMskIam),
];

const TOKENAUTH: &str =
    "means nothing with this mechanism: delegation tokens are shown by SCRAM-SHA-256 or SCRAM-SHA-512";
const OIDC: &str = "fetching tokens from an OIDC issuer is not supported yet; `token_file` takes one that somebody else \
                    fetches and keeps fresh";

pub(super) fn read(
    section: &Section<'_>,
    brokers: &[String],
    properties: &mut Properties,
    context: &Context<'_>,
) -> Option<Sasl> {
    let own = section.section("authentication")?;
    let mut reader = Reader {
        cluster: section,
        own: &own,
        brokers,
        properties,
        context,
    };
    let sasl = reader.read().unwrap_or_default();
    own.finish();
    Some(sasl)
}

impl Sasl {
    /// Reports a protocol that gives the token away. To be called when the protocol is settled.
    pub(super) fn check_protocol(&self, section: &Section<'_>, properties: &Properties) {
        let is_iam = |token: &BearerToken| matches!(token.source, TokenSource::AwsMskIam(_));
        let protocol = properties.get("security.protocol");
        let is_tls = protocol.is_some_and(|set| set.value.expose().eq_ignore_ascii_case("SASL_SSL"));
        if self.token.as_ref().is_some_and(is_iam) && !is_tls {
            section.problem(
                "authentication",
                "AWS MSK IAM is spoken over TLS only (SASL_SSL): set `security.ssl: true`",
            );
        }
    }

    /// Reports properties that mean nothing to a delegation token's connections, which are not librdkafka's own. To be
    /// called when all properties are read.
    pub(super) fn check_against(&self, properties: &Properties, context: &Context<'_>) {
        if self.delegation.is_none() {
            return;
        }
        for path in properties.starting_with("sasl.") {
            context.problems.report(
                path,
                "means nothing with `tokenauth`: the token is all there is to SASL",
            );
        }
        for (name, set) in properties.named("ssl.") {
            if !relay::knows(name) {
                context.problems.report(
                    &set.path,
                    "is not heeded with `tokenauth`: `security` has what is, and of the other properties of TLS \
                     ssl.cipher.suites, ssl.curves.list, ssl.sigalgs.list and ssl.endpoint.identification.algorithm",
                );
            }
        }
    }
}

struct Reader<'a, 'b> {
    cluster: &'a Section<'b>,
    own: &'a Section<'b>,
    brokers: &'a [String],
    properties: &'a mut Properties,
    context: &'a Context<'a>,
}

impl Reader<'_, '_> {
    fn read(&mut self) -> Option<Sasl> {
        let own = self.own;
        own.choice("strategy", &[("sasl", ())]);
        let mechanism = own.choice("mechanism", MECHANISMS);
        let tokenauth = own.bool("tokenauth").unwrap_or_default();
        if own.raw("sasl_jaas_config").is_some() {
            for key in ["user", "password", "oauthbearer", "aws_msk_iam"] {
                own.refuse(key, "is what `sasl_jaas_config` says: keep one");
            }
            if tokenauth {
                own.problem(
                    "tokenauth",
                    "goes into the line of `sasl_jaas_config`, as tokenauth=\"true\"",
                );
            }
            let line = secret::field(own, "sasl_jaas_config", Inline::Warned, self.context)?;
            return self.jaas(mechanism, &line);
        }
        let Some(mechanism) = mechanism else {
            if own.raw("mechanism").is_none() {
                own.problem(
                    "mechanism",
                    "is required: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER or AWS_MSK_IAM",
                );
            }
            return None;
        };
        let scram = scram_hash(mechanism);
        if mechanism != Mechanism::AwsMskIam {
            own.refuse("aws_msk_iam", "belongs to `mechanism: AWS_MSK_IAM`");
        }
        if tokenauth && scram.is_none() {
            own.problem("tokenauth", TOKENAUTH);
        }
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
                let (user, password) = (user?, password?);
                if let Some(hash) = scram.filter(|_| tokenauth) {
                    return Some(delegation(hash, user, password));
                }
                self.login(mechanism, ("user", user), ("password", password));
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
                Some(bearing(token?))
            }
            Mechanism::AwsMskIam => {
                for key in ["user", "password", "oauthbearer"] {
                    own.refuse(
                        key,
                        "means nothing with AWS_MSK_IAM: `aws_msk_iam` has its fields",
                    );
                }
                self.set("mechanism", "sasl.mechanism", "OAUTHBEARER");
                let said = match own.section("aws_msk_iam") {
                    Some(section) => {
                        let said = aws::Said::read(&section, self.context);
                        section.finish();
                        said
                    }
                    None => aws::Said::default(),
                };
                let settled = said.settle(self.brokers);
                let settled =
                    settled.map_err(|(field, why)| own.problem(&format!("aws_msk_iam.{field}"), why));
                Some(bearing(iam(settled.ok()?)))
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
        for key in [
            "token_endpoint_url",
            "client_id",
            "client_secret",
            "scopes",
            "token_endpoint_tls_verify",
        ] {
            section.refuse(key, OIDC);
        }
        section.refuse(
            "credentials",
            "passing the caller's token on is not supported yet",
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
        let token = secret::field(section, "token", Inline::Warned, self.context);
        let file = section.name("token_file");
        let source = match (section.raw("token"), section.raw("token_file")) {
            (Some(_), Some(_)) => {
                section.problem("token_file", "is the same as `token`: keep one");
                return None;
            }
            (None, None) => {
                section.problem("token_file", "is missing: OAUTHBEARER needs it, or `token`");
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
    fn jaas(&mut self, mechanism: Option<Mechanism>, line: &Secret) -> Option<Sasl> {
        const KEY: &str = "sasl_jaas_config";
        let own = self.own;
        let problem = |why: &str| own.problem(KEY, why);
        let jaas::Line { module, mut options } =
            jaas::parse(line.expose()).map_err(|why| problem(&why)).ok()?;
        let (fits, meant): (&[Mechanism], _) = match module.as_str() {
            "PlainLoginModule" => (&[Mechanism::Plain], Some(Mechanism::Plain)),
            "ScramLoginModule" => (&[Mechanism::Scram256, Mechanism::Scram512], None),
            "OAuthBearerLoginModule" => (&[Mechanism::OauthBearer], Some(Mechanism::OauthBearer)),
            "IAMLoginModule" => (&[Mechanism::AwsMskIam], Some(Mechanism::AwsMskIam)),
            "Krb5LoginModule" => {
                problem("GSSAPI (Kerberos) is not supported yet");
                return None;
            }
            _ => {
                problem(
                    "has a login module that is not known; known are PlainLoginModule, ScramLoginModule, \
                     OAuthBearerLoginModule and IAMLoginModule",
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
        if mechanism == Mechanism::AwsMskIam {
            let said = aws::Said::take(&mut options);
            self.no_more(&options);
            let settled = said.settle(self.brokers);
            let settled = settled.map_err(|(field, why)| {
                problem(&format!(
                    "lacks or contradicts what is `aws_msk_iam.{field}` without it: {why}"
                ));
            });
            self.set(KEY, "sasl.mechanism", "OAUTHBEARER");
            return Some(bearing(iam(settled.ok()?)));
        }
        let mut take = |name: &str| options.remove(name);
        if mechanism != Mechanism::OauthBearer {
            let tokenauth = take("tokenauth").is_some_and(|value| value.eq_ignore_ascii_case("true"));
            let hash = scram_hash(mechanism).filter(|_| tokenauth);
            if tokenauth && hash.is_none() {
                problem("has `tokenauth`, which is ScramLoginModule's");
                return None;
            }
            let (user, password) = (take("username"), take("password"));
            self.no_more(&options);
            let (Some(user), Some(password)) = (user, password) else {
                problem("needs the options `username` and `password`");
                return None;
            };
            let (user, password) = (Secret::new(user), Secret::new(password));
            if let Some(hash) = hash {
                return Some(delegation(hash, user, password));
            }
            self.login(mechanism, (KEY, user), (KEY, password));
            return None;
        }
        self.set(KEY, "sasl.mechanism", name(mechanism));
        let principal = take("unsecuredLoginStringClaim_sub");
        let lifetime = take("unsecuredLoginLifetimeSeconds");
        if options
            .keys()
            .any(|name| name.starts_with("oauth.") || name.starts_with("client"))
        {
            problem(OIDC);
            return None;
        }
        self.no_more(&options);
        let Some(principal) = principal else {
            problem(
                "needs the option `unsecuredLoginStringClaim_sub`; a token of your own goes to `oauthbearer`, \
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
        Some(bearing(BearerToken {
            source: TokenSource::Unsecured {
                principal,
                lifetime: Duration::from_secs(lifetime),
            },
            extensions: BTreeMap::new(),
        }))
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

fn iam(iam: AwsIam) -> BearerToken {
    BearerToken {
        source: TokenSource::AwsMskIam(iam),
        extensions: BTreeMap::new(),
    }
}

fn bearing(token: BearerToken) -> Sasl {
    Sasl {
        token: Some(token),
        ..Sasl::default()
    }
}

fn delegation(hash: ScramHash, id: Secret, hmac: Secret) -> Sasl {
    Sasl {
        delegation: Some(DelegationToken { hash, id, hmac }),
        ..Sasl::default()
    }
}

fn scram_hash(mechanism: Mechanism) -> Option<ScramHash> {
    match mechanism {
        Mechanism::Scram256 => Some(ScramHash::Sha256),
        Mechanism::Scram512 => Some(ScramHash::Sha512),
        _ => None,
    }
}

fn name(mechanism: Mechanism) -> &'static str {
    let found = MECHANISMS.iter().find(|(_, one)| *one == mechanism);
    found.map_or("", |(name, _)| name)
}
