//! `authentication:` of a cluster: Kong's fields, and JAAS lines.

mod line;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use sluice_settings::Section;

use super::{aws, gssapi, oidc};
use crate::config::properties::Properties;
use crate::config::read::Context;
use crate::config::secret::{self, Inline};
use crate::config::{
    AwsIam, BearerToken, Callers, DelegationToken, Kerberos, ScramHash, Secret, TokenSource,
};
use crate::kafka::{bearer, relay};

/// What `authentication` gives that is no property.
#[derive(Default)]
pub(super) struct Sasl {
    /// The token of OAUTHBEARER.
    pub(super) token: Option<BearerToken>,
    /// The delegation token.
    pub(super) delegation: Option<DelegationToken>,
    /// Whose Kerberos tickets are shown.
    pub(super) kerberos: Option<Kerberos>,
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
    /// OAUTHBEARER with a token of AWS's kind.
    AwsMskIam,
    Gssapi,
}

const MECHANISMS: &[(&str, Mechanism)] = &[
    ("PLAIN", Mechanism::Plain),
    ("SCRAM-SHA-256", Mechanism::Scram256),
    ("SCRAM-SHA-512", Mechanism::Scram512),
    ("OAUTHBEARER", Mechanism::OauthBearer),
    ("GSSAPI", Mechanism::Gssapi),
    ("AWS_MSK_IAM", Mechanism::AwsMskIam),
];

const TOKENAUTH: &str =
    "means nothing with this mechanism: delegation tokens are shown by SCRAM-SHA-256 or SCRAM-SHA-512";

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
    let sasl = match reader.callers() {
        Some(callers) => Sasl {
            callers: Some(callers),
            ..Sasl::default()
        },
        None => reader.read().unwrap_or_default(),
    };
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
        for key in [
            "user",
            "password",
            "oauthbearer",
            "aws_msk_iam",
            "gssapi",
            "sasl_jaas_config",
            "tokenauth",
        ] {
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

    fn read(&mut self) -> Option<Sasl> {
        let own = self.own;
        own.choice("strategy", &[("sasl", ())]);
        let mechanism = own.choice("mechanism", MECHANISMS);
        let tokenauth = own.bool("tokenauth").unwrap_or_default();
        if own.raw("sasl_jaas_config").is_some() {
            for key in ["user", "password", "oauthbearer", "aws_msk_iam", "gssapi"] {
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
                    "is required: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER, AWS_MSK_IAM or GSSAPI",
                );
            }
            return None;
        };
        let scram = scram_hash(mechanism);
        if mechanism != Mechanism::AwsMskIam {
            own.refuse("aws_msk_iam", "belongs to `mechanism: AWS_MSK_IAM`");
        }
        if mechanism != Mechanism::Gssapi {
            own.refuse("gssapi", "belongs to `mechanism: GSSAPI`");
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
            Mechanism::Gssapi => {
                for key in ["user", "password", "oauthbearer"] {
                    own.refuse(key, "means nothing with GSSAPI: `gssapi` has its fields");
                }
                let Some(section) = own.section("gssapi") else {
                    if own.raw("gssapi").is_none() {
                        own.problem(
                            "gssapi",
                            "is required by GSSAPI, as {principal: me@REALM, keytab: /etc/me.keytab}",
                        );
                    }
                    return None;
                };
                let settled = gssapi::Said::read(&section).settle();
                section.finish();
                let settled = settled.map_err(|(field, why)| own.problem(&format!("gssapi.{field}"), why));
                self.kerberos("mechanism", settled.ok()?)
            }
        }
    }

    fn kerberos(&mut self, key: &str, settled: gssapi::Settled) -> Option<Sasl> {
        if !cfg!(feature = "gssapi") {
            self.own.problem(key, gssapi::NOT_BUILT);
            return None;
        }
        self.set(key, "sasl.mechanism", "GSSAPI");
        self.set(key, "sasl.kerberos.service.name", &settled.service_name);
        self.set(key, "sasl.kerberos.principal", &settled.kerberos.principal);
        // No program is run for tickets: the Kerberos library has the keytab.
        self.set(key, "sasl.kerberos.min.time.before.relogin", "0");
        Some(Sasl {
            kerberos: Some(settled.kerberos),
            ..Sasl::default()
        })
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
