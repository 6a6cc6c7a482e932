//! Ids of runs, and their records.

use serde_json::{Value, json};

use super::{run, two};
use crate::actions::item::Run;
use crate::actions::{automation, port, rules, runs};

/// The expected values are from Python: `hmac`, and `json.dumps(msg, separators=(",", ":"), ensure_ascii=False)` of the message as
/// an agent has it when it checks.
#[test]
fn a_run_is_signed_as_agents_check_it() {
    let settings = two();
    let org = &settings.orgs["acme"];
    let payload = json!({"ü": "\u{2028}", "n": 1.5});
    let mut run = run();
    let signature = |run: &Run| {
        let message = port::message(org, "r_1", run, payload.clone(), 1_700_000_000_999).unwrap();
        let message: Value = serde_json::from_slice(&message).unwrap();
        assert_eq!(message["headers"]["X-Port-Timestamp"], "1700000000");
        message["headers"]["X-Port-Signature"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(signature(&run), "v1,sW5SNFu/H8UK/un19BbzrttiED4fxKqFmNO2VWB6RE4=");
    run.invocation_method.insert("type".to_owned(), "GITLAB".into());
    assert_eq!(signature(&run), "v1,QOVQ8ASW0nLLrqKevp6Hl793y7Y24hoph6/mNOeIOXk=");
    // Without a secret there is nothing to sign with.
    let unsigned = port::message(&settings.orgs["rest"], "r_1", &run, payload, 0).unwrap();
    let unsigned: Value = serde_json::from_slice(&unsigned).unwrap();
    assert_eq!(unsigned.get("headers"), None);
    assert_eq!(unsigned["context"]["runId"], "r_1");
}

#[test]
fn ids_of_runs_sort_by_time_and_are_the_same_for_the_same_cause() {
    let early = runs::run_id(1_700_000_000_000, None).unwrap();
    let late = runs::run_id(1_700_000_000_001, None).unwrap();
    assert!(
        early < late && rules::identifier(&early).is_ok(),
        "{early} {late}"
    );
    let of = |automation, cause| runs::run_id(5, Some(&automation::id(automation, cause))).unwrap();
    assert_eq!(of("a", "c_1"), of("a", "c_1"));
    assert_ne!(of("a", "c_1"), of("a", "c_2"));
    assert_ne!(of("a", "c_1"), of("b", "c_1"));
    assert_eq!(of("a", "c_1").len(), early.len());
}
