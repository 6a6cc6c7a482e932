//! Where AWS's credentials are from, and what is said where there are none.

use serde_json::json;

use crate::command::Kafka;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn credentials_of_the_environment_and_of_profiles() {
    let kafka = Kafka::start("").await;
    kafka.write(
        "credentials",
        "[orders]\naws_access_key_id = AKIDPROFILE\naws_secret_access_key = hunter2\n\
         [broken]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = nobody\n",
    );
    kafka.write("empty", "");
    let keys = [
        ("AWS_ACCESS_KEY_ID", "AKIDENVIRONMENT"),
        ("AWS_SECRET_ACCESS_KEY", "hunter2"),
    ];
    // The dev broker has no TLS: to get so far as to be told so takes a token.
    let (good, bad) = ("the TLS handshake failed", "there is no token to show");
    type Variables<'a> = &'a [(&'a str, &'a str)];
    let rows: [(&str, serde_json::Value, Variables<'_>, &str); 6] = [
        ("environment", json!({}), &keys, good),
        ("profile", json!({"profile": "orders"}), &[], good),
        (
            "keys",
            json!({"access_key_id": "AKID", "secret_access_key": "hunter2"}),
            &[],
            good,
        ),
        ("none", json!({}), &[], bad),
        ("unknown", json!({"profile": "nobody"}), &[], bad),
        ("broken", json!({"profile": "broken"}), &keys, bad),
    ];
    for (name, fields, variables, expected) in rows {
        let mut iam = json!({"region": "eu-west-1"});
        iam.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        let config = json!({
            "clusters": {"msk": {
                "bootstrap_servers": kafka.brokers(),
                "security": {"ssl": true},
                "authentication": {"mechanism": "AWS_MSK_IAM", "aws_msk_iam": iam},
                "allowed_topics": ["orders"],
            }},
        });
        kafka.write("aws.yaml", &config.to_string());
        let mut all = vec![
            ("AWS_SHARED_CREDENTIALS_FILE", "credentials"),
            ("AWS_CONFIG_FILE", "empty"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ];
        all.extend(variables);
        let arguments = ["check-config", "--connect", "--config", "aws.yaml"];
        let output = kafka.spawn_with(&arguments, &all).finish().await;
        assert_eq!(output.code, Some(1), "{name}: {output:?}");
        let said = output.err.lines().find(|line| line.starts_with("clusters.msk: "));
        assert!(
            said.is_some_and(|line| line.contains(expected)),
            "{name}: {output:?}"
        );
        assert!(!output.err.contains("hunter2"), "{name}: {output:?}");
        if expected == bad {
            assert!(output.err.contains("no AWS credentials: "), "{name}: {output:?}");
        }
    }
}
