use serde_json::json;

use super::*;

#[test]
fn no_configuration_is_an_empty_one() {
    let config = FilterConfig::from_json(b"").unwrap();
    assert_eq!(config, FilterConfig::from_json(b" {} ").unwrap());
    assert_eq!(config.resolve(None, b""), Ok(None));
    let route = config.resolve(None, &metadata::encode(&json!({"topic": "orders"})));
    assert_eq!(route.unwrap().unwrap().topics, ["orders"]);
}
