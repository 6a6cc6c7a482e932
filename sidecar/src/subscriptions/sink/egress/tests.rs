use std::net::Ipv4Addr;

use proptest::prelude::*;
use serde_json::{Value, json};
use sluice_settings::Problems;
use url::Url;

use super::*;

fn read(tree: &Value) -> Result<Egress, Vec<String>> {
    let problems = Problems::default();
    let egress = Egress::read(Section::root(tree, &problems));
    let all: Vec<String> = problems.into_vec().iter().map(ToString::to_string).collect();
    if all.is_empty() { Ok(egress) } else { Err(all) }
}

fn place(url: &str) -> Result<Place, String> {
    Place::of(&Url::parse(url).map_err(|error| error.to_string())?)
}

fn check(egress: &Egress, url: &str, by: Author) -> Result<(), String> {
    egress.check(&place(url)?, by)
}

fn resolved(egress: &Egress, url: &str, address: &str, by: Author) -> Result<(), String> {
    egress.check_address(&place(url).unwrap(), address.parse().unwrap(), by)
}

#[test]
fn the_api_may_call_what_an_entry_names_and_nothing_else() {
    let egress = read(&json!({"allow": [
        {"hosts": ["hooks.example.com", "*.Sub.example.org"], "schemes": ["https"], "ports": [443, 8443]},
        {"hosts": ["*"], "ports": [80]},
    ]}))
    .unwrap();
    for good in [
        "https://hooks.example.com/x",
        "https://HOOKS.example.com:8443/",
        "https://hooks.example.com./",
        "https://a.sub.example.org/",
        "https://a.b.sub.example.org/",
        "http://anything.at.all/",
    ] {
        check(&egress, good, Author::Api).unwrap_or_else(|why| panic!("{good}: {why}"));
    }
    for bad in [
        "http://hooks.example.com:8443/",
        "https://hooks.example.com:444/",
        "https://sub.example.org/",
        "https://evilsub.example.org/",
        "https://hooks.example.com.evil.net/",
        "https://1.1.1.1/",
        "http://1.1.1.1/",
    ] {
        let why = check(&egress, bad, Author::Api).unwrap_err();
        assert!(why.contains("egress.allow"), "{bad}: {why}");
        check(&egress, bad, Author::Config).unwrap();
    }
    let nothing = Egress::default();
    assert!(check(&nothing, "https://example.com/", Author::Api).is_err());
    check(&nothing, "https://example.com/", Author::Config).unwrap();
}

#[test]
fn a_name_does_not_lead_to_what_is_not_the_internet() {
    let egress = read(&json!({"allow": [{"hosts": ["*"]}]})).unwrap();
    let url = "https://example.com/";
    for public in ["93.184.215.14", "2606:2800:21f::1", "64:ff9b::5db8:d70e"] {
        resolved(&egress, url, public, Author::Api).unwrap();
    }
    for special in [
        "127.0.0.1",
        "10.1.2.3",
        "172.31.0.1",
        "192.168.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "168.63.129.16",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::127.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "fe80::1",
        "fd00:ec2::254",
        "fd12::1",
        "ff02::1",
    ] {
        let why = resolved(&egress, url, special, Author::Api).unwrap_err();
        assert!(why.contains("`cidrs` within"), "{special}: {why}");
    }
}

#[test]
fn a_range_opens_a_block_only_that_it_is_within() {
    let egress = read(&json!({"allow": [
        {"cidrs": ["0.0.0.0/0", "::/0"]},
        {"hosts": ["svc"], "cidrs": ["10.0.0.0/8", "169.254.0.0/16"]},
        {"hosts": ["imds"], "cidrs": ["169.254.169.254"]},
        {"hosts": ["127.0.0.1", "[::1]"], "ports": [9080]},
    ]}))
    .unwrap();
    let api = Author::Api;
    resolved(&egress, "http://x/", "1.1.1.1", api).unwrap();
    resolved(&egress, "http://x/", "10.0.0.1", api).unwrap_err();
    resolved(&egress, "http://svc/", "10.0.0.1", api).unwrap();
    resolved(&egress, "http://svc/", "169.254.1.1", api).unwrap();
    resolved(&egress, "http://svc/", "::ffff:10.0.0.1", api).unwrap();
    resolved(&egress, "http://svc/", "172.16.0.1", api).unwrap_err();
    // The whole link-local range does not mean the metadata service in it.
    resolved(&egress, "http://svc/", "169.254.169.254", api).unwrap_err();
    resolved(&egress, "http://imds/", "169.254.169.254", api).unwrap();
    check(&egress, "http://127.0.0.1:9080/", api).unwrap();
    check(&egress, "http://[::1]:9080/", api).unwrap();
    check(&egress, "http://[::ffff:127.0.0.1]:9080/", api).unwrap();
    check(&egress, "http://127.0.0.1:9070/", api).unwrap_err();
    check(&egress, "http://127.0.0.2:9080/", api).unwrap_err();
    // What is written as an address is not what a name may come to.
    resolved(&egress, "http://x:9080/", "127.0.0.1", api).unwrap_err();
}

#[test]
fn the_configuration_may_name_loopback_and_private_but_not_metadata() {
    let nothing = Egress::default();
    let by = Author::Config;
    for good in [
        "http://127.0.0.1:9080/",
        "http://[::1]/",
        "http://10.0.0.1/",
        "http://[fd12::1]/",
    ] {
        check(&nothing, good, by).unwrap();
    }
    for bad in [
        "http://169.254.169.254/latest",
        "http://169.254.0.1/",
        "http://[fd00:ec2::254]/",
        "http://[fe80::1]/",
        "http://100.100.100.200/",
        "http://[::ffff:a9fe:a9fe]/",
        "http://0.0.0.0/",
    ] {
        check(&nothing, bad, by).unwrap_err();
    }
    resolved(&nothing, "http://metadata.internal/", "169.254.169.254", by).unwrap_err();
    let opened = read(&json!({"allow": [{"hosts": ["169.254.169.254"]}]})).unwrap();
    check(&opened, "http://169.254.169.254/", by).unwrap();
}

#[test]
fn what_is_no_target_is_refused() {
    for (url, why) in [
        ("ftp://example.com/", "only http://"),
        ("file:///etc/passwd", "only http://"),
        ("http://user@example.com/", "`authentication`"),
        ("http://example.com:80@127.0.0.1/", "`authentication`"),
        ("http://:pw@example.com/", "`authentication`"),
        ("http://example.com:0/", "has no port"),
        ("http://./", "has no host"),
        ("http://[fe80::1%25eth0]/", "IPv6"),
    ] {
        let found = place(url).unwrap_err();
        assert!(found.contains(why), "{url}: {found}");
    }
    let problems = read(&json!({"allow": [
        {"hosts": ["a*b", "*.1.2.3.4", "a b"], "cidrs": ["10.0.0.0/33"], "schemes": ["ftp"], "ports": [0, "x"]},
        {"ports": [1]},
        {"host": "x", "cidrs": ["10.0.0.0/8"]},
    ]}))
    .unwrap_err();
    for path in [
        "allow[0].hosts[0]:",
        "allow[0].hosts[1]:",
        "allow[0].hosts[2]:",
        "allow[0].cidrs[0]:",
        "allow[0].schemes[0]:",
        "allow[0].ports[0]:",
        "allow[0].ports[1]:",
        "allow[1].hosts: is required",
        "allow[2].host: unknown field; did you mean `hosts`?",
    ] {
        assert!(
            problems.iter().any(|problem| problem.starts_with(path)),
            "{path}: {problems:?}"
        );
    }
}

#[tokio::test]
async fn what_is_resolved_is_what_was_judged() {
    let egress = Arc::new(read(&json!({"allow": [{"hosts": ["localhost"]}]})).unwrap());
    let localhost = place("http://localhost:9080/").unwrap();
    let why = egress
        .guard(localhost.clone(), Author::Api)
        .resolve()
        .await
        .unwrap_err();
    assert!(why.contains("a loopback address"), "{why}");
    let found = egress.guard(localhost, Author::Config).resolve().await.unwrap();
    assert!(
        found
            .iter()
            .all(|address| address.ip().is_loopback() && address.port() == 9080)
    );
}

/// However an IPv4 address may be written that the URL standard, or the C library, takes.
fn writings(address: Ipv4Addr) -> Vec<String> {
    let [a, b, c, d] = address.octets();
    let number = u32::from(address);
    let tail = number & 0x00ff_ffff;
    let mapped = address.to_ipv6_mapped();
    let [.., high, low] = mapped.segments();
    vec![
        format!("{a}.{b}.{c}.{d}"),
        format!("{a}.{b}.{c}.{d}."),
        format!("{number}"),
        format!("0x{number:x}"),
        format!("0{number:o}"),
        format!("{a}.{tail}"),
        format!("{a}.{b}.{}", number & 0xffff),
        format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
        format!("0x{a:x}.0X{b:x}.0x{c:X}.{d}"),
        format!("[::ffff:{a}.{b}.{c}.{d}]"),
        format!("[::ffff:{high:x}:{low:x}]"),
        format!("[64:ff9b::{high:x}:{low:x}]"),
        // Full-width digits and an ideographic full stop, which IDNA maps.
        format!("{a}\u{3002}{b}\u{ff0e}{c}.{d}")
            .chars()
            .map(|c| {
                c.to_digit(10)
                    .and_then(|n| char::from_u32(0xff10 + n))
                    .unwrap_or(c)
            })
            .collect(),
    ]
}

fn special_v4() -> impl Strategy<Value = Ipv4Addr> {
    prop_oneof![
        Just(Ipv4Addr::new(169, 254, 169, 254)),
        any::<[u8; 3]>().prop_map(|[b, c, d]| Ipv4Addr::new(127, b, c, d)),
        any::<[u8; 3]>().prop_map(|[b, c, d]| Ipv4Addr::new(10, b, c, d)),
        any::<[u8; 2]>().prop_map(|[c, d]| Ipv4Addr::new(192, 168, c, d)),
        any::<[u8; 2]>().prop_map(|[c, d]| Ipv4Addr::new(169, 254, c, d)),
        (16..32_u8, any::<[u8; 2]>()).prop_map(|(b, [c, d])| Ipv4Addr::new(172, b, c, d)),
    ]
}

proptest! {
    #[test]
    fn no_way_of_writing_an_address_gets_past(address in special_v4()) {
        let egress = read(&json!({"allow": [{"hosts": ["*", "*.example.com"]}, {"cidrs": ["0.0.0.0/0", "::/0"]}]})).unwrap();
        for host in writings(address) {
            let url = format!("http://{host}/");
            let Ok(place) = place(&url) else { continue };
            let found = place.address().map(blocks::canonical);
            prop_assert_eq!(found, Some(IpAddr::V4(address)), "{}", url);
            prop_assert!(egress.check(&place, Author::Api).is_err(), "{}", url);
        }
    }

    #[test]
    fn a_host_that_is_no_address_is_none_to_the_resolver_either(text in "[0-9a-fx.]{1,15}") {
        if let Some(url::Host::Domain(name)) = place::host(&text) {
            // What `getaddrinfo` takes for an address ends in a number.
            let last = name.rsplit('.').next().unwrap();
            let number = last.bytes().all(|byte| byte.is_ascii_digit())
                || last.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
            prop_assert!(!number, "{} {}", text, name);
        }
    }

    #[test]
    fn a_public_address_is_in_no_block(bits in any::<u32>()) {
        let address = Ipv4Addr::from(bits);
        let known = address.is_loopback() || address.is_private() || address.is_link_local()
            || address.is_multicast() || address.is_unspecified() || address.is_broadcast() || address.is_documentation();
        prop_assert!(!known || blocks::of(address.into()).is_some(), "{}", address);
    }
}
