//! A secret at every place of a URL where somebody may write it, well or badly: nothing shows it.

use std::fmt::Write;
use std::io;
use std::sync::{Arc, Mutex};

use fleetward::Instance;
use fleetward::grpc::{Channel, Connect};
use fleetward::registry::RegistryUrl;

/// Each has a character that should have been escaped, or the part before one that looks like a
/// port. `4711` and `canary` are what must not be seen, in any encoding.
const SECRETS: &[&str] = &[
    "canary",
    "4711canary",
    "4711?canary",
    "4711#canary",
    "4711/canary",
    "4711@canary",
    "4711%canary",
    "4711%zcanary",
    "4711 canary",
    "4711\tcanary",
    "4711\ncanary",
    "4711äcanary",
    "4711;canary",
    "4711&canary",
    "4711&a=canary",
    "4711=canary",
    "4711,canary",
    "4711:canary",
    "4711\\canary",
    "4711+canary",
    "4711[canary",
    "4711]canary",
    "4711?a=canary",
    "4711??canary",
    "4711?codec=canary",
    "4711?token=canary",
    "4711?wait=canary",
    "canary?4711",
    "canary/4711",
    "canary#4711",
    "canary@4711",
    "canary,4711",
    "?canary",
    "/canary",
    "#canary",
    "@canary",
    "%63anary",
    "c%61nary",
    "canary%3F4711",
    "canary%40",
    "%ffcanary",
    "://canary",
    "canary?x@y?4711",
    "canary@@",
    "canary,h:1",
    "h:1,canary",
];

/// `S` is the secret.
/// (A scheme that nobody knows is shown where hosts follow it.)
const PLACES: &[&str] = &[
    "root:S@h:1/s",
    "root:S@h/s",
    "root:S@127.0.0.1:1/s",
    "root:S@[::1]:1/s",
    ":S@h:1/s",
    "S@h:1/s",
    "S:@h:1/s",
    "root:S@h:1,h:2/s",
    "root:S@h:1,root:S@h:2/s",
    "h:1,root:S@h:2/s",
    "h:1,h:2,S@h:3/s",
    "root:S@/s",
    "root:S@",
    "root:S@h:x/s",
    "root:S@h:1/a//s",
    "root:S@h:1/s?tag=a&tag=b",
    "root:S@h:1/s?nonsense=1",
    "root:S@h:1?ca=/nowhere/ca.pem",
    "root:pw@S:S@h:1/s",
    "root:S@h:1@h:2/s",
    "root:S@h:1/s?dangerous_plaintext_credentials=true",
];

/// As above, in a query.
const OPTIONS: &[&str] = &[
    "token=S",
    "TOKEN=S",
    "Token=S",
    "tokn=S",
    "password=S",
    "PASSWORD=S",
    "pasword=S",
    "passwd=S",
    "secret=S",
    "api_key=S",
    "wait=5s&tokn=S",
    "token=a&token=S",
    "wait=5s;token=S",
    "codec=plain;password=S",
    "balancer=p2c;token=S",
    "balancer=p2c?token=S",
    "only=zone=a;token=S",
    "ca=/nowhere/ca.pem;key=S",
    "ca=/nowhere/ca.pem?key=S",
    "ca=S",
    "cert=S&key=S",
    "token_file=S",
    "password_file=S",
    "ttl=S",
    "keep_trying=S",
    "wait=S",
    "wait=5S",
    "connect_timeout=S",
    "page_size=S",
    "passing=S",
    "codec=S",
    "check=S",
    "consistency=S",
    "empty_set=S",
    "subset=S",
    "subset=1&client_index=S",
    "only=S",
    "check=http&check_path=S",
    "check=http&check_path=/x?token=S",
    "domain=S",
    "S",
    "S=x",
    "=S",
    "&S",
    "x=y?S",
    "wait=5s&&S&",
    "dangerous_plaintext_credentials=true&token=S",
];

fn urls() -> Vec<String> {
    let mut urls = Vec::new();
    for secret in SECRETS {
        for scheme in ["etcd", "etcds", "consul", "memory", "static", "zookeeper"] {
            // `a:b:@h` is a user a; a user's name is no secret where there is a password.
            for place in
                PLACES.iter().filter(|place| !(place.starts_with('S') && secret.contains(':')))
            {
                let place = place.replace('S', secret);
                for between in ["://", ":"] {
                    urls.push(format!("{scheme}{between}{place}"));
                }
            }
        }
        for hosts in ["etcd://127.0.0.1:1/s", "consul://127.0.0.1:1/s", "memory:s"] {
            for option in OPTIONS.iter().filter(|option| !is_named(option, secret)) {
                urls.push(format!("{hosts}?{}", option.replace('S', secret)));
            }
        }
        for text in ["S", "root:S", "root:S@h:1/s", "S@h:1/s", "//root:S@h:1/s", "S:8500/s"] {
            urls.push(text.replace('S', secret));
        }
        for text in
            ["static:root:S@10.0.0.1:1,10.0.0.2:1", "static:10.0.0.1:1,root:S", "memory:root:S"]
        {
            urls.push(text.replace('S', secret));
        }
    }
    urls
}

/// The absolute path of a file, and the field of a filter, are named where they are wrong.
fn is_named(option: &str, secret: &str) -> bool {
    let path = ["ca=S", "cert=S&key=S", "token_file=S", "password_file=S"].contains(&option)
        && secret.starts_with('/');
    path || option == "only=S" && secret.contains('=')
}

/// Everything that a program could print of a URL.
async fn shown(url: &str) -> String {
    let mut out = String::new();
    match RegistryUrl::parse(url) {
        Ok(mut parsed) => {
            write!(out, "{parsed} {parsed:?} ").unwrap();
            write!(out, "{:?} ", parsed.options()).unwrap();
            write!(out, "{:?} ", parsed.options().finish()).unwrap();
            #[cfg(feature = "etcd")]
            match fleetward::etcd::EtcdConfig::from_url(parsed.clone()) {
                Ok(config) => write!(out, "{config:?} {:?} ", config.check()).unwrap(),
                Err(error) => write!(out, "{error} {error:?} ").unwrap(),
            }
            #[cfg(feature = "consul")]
            match fleetward::consul::ConsulConfig::from_url(parsed.clone()) {
                Ok(config) => write!(out, "{config:?} {:?} ", config.check()).unwrap(),
                Err(error) => write!(out, "{error} {error:?} ").unwrap(),
            }
        }
        Err(error) => write!(out, "{error} {error:?} ").unwrap(),
    }
    match fleetward::connect(url).await {
        Ok(handle) => write!(out, "{handle:?} ").unwrap(),
        Err(error) => {
            write!(out, "{error} {error:?} ").unwrap();
            return out;
        }
    }
    let builder = Channel::builder(url);
    write!(out, "{builder:?} ").unwrap();
    match builder.connect().await {
        Ok(channel) => write!(out, "{channel:?} ").unwrap(),
        Err(error) => write!(out, "{error} {error:?} ").unwrap(),
    }
    out
}

fn leaks(shown: &str) -> bool {
    ["canary", "4711", "%63anary", "c%61nary"].iter().any(|secret| shown.contains(secret))
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_secret_is_shown_nowhere_whatever_parsing_makes_of_the_url() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .without_time()
        .with_writer(move || writer.clone())
        .try_init()
        .unwrap();
    let urls = urls();
    let mut leaked = Vec::new();
    for url in &urls {
        let shown = shown(url).await;
        if leaks(&shown) {
            leaked.push(format!("{url:?}\n    {shown}"));
        }
    }
    let log = String::from_utf8(std::mem::take(&mut *log.0.lock().unwrap())).unwrap();
    leaked.extend(log.lines().filter(|line| leaks(line)).map(|line| format!("log: {line}")));
    assert!(urls.len() > 10_000 && log.contains("sent without TLS"), "{} URLs", urls.len());
    let few = leaked.iter().take(5).cloned().collect::<Vec<_>>().join("\n");
    assert!(leaked.is_empty(), "{} of {} URLs:\n{few}", leaked.len(), urls.len());
}

/// An address that was refused is data of somebody's, too.
#[test]
fn an_address_that_is_refused_is_not_repeated() {
    for text in ["http://root:canary@h:1", "root:canary", "h:1?token=canary", "canary"] {
        let error = Instance::new(text).unwrap_err();
        assert!(!leaks(&format!("{error} {error:?}")), "{error:?}");
    }
    let error = Instance::new("127.0.0.1").unwrap_err().to_string();
    assert!(error.contains("(address=127.0.0.1)"), "{error}");
}

#[cfg(all(feature = "etcd", feature = "consul"))]
#[tokio::test]
async fn what_is_in_its_place_is_named() {
    for (url, parts) in [
        ("etcd://root:p?w@h:1/s", &["as %3F", "as %40"][..]),
        ("etcd://root:p/w@h:1/s", &["as %2F"]),
        ("etcd://root:p#w@h:1/s", &["%23"]),
        ("etcd://h1:1,root:pw@h2:1/s", &["in front of all hosts", "%2C"]),
        ("etcd://h:1/s?wait=5s;token=x", &["joined by '&'", "%3B"]),
        ("etcd://h:1,h:x/s", &["endpoint", "no.=2", "the port is not a number"]),
        ("etcd://root:pw@192.0.2.1:1/s", &["endpoint=192.0.2.1:1", "etcd://root:***@192.0.2.1:1/"]),
        (
            "consul://h:1/s?tag=a&tokn=x",
            &["no. 2 of 2 (4 characters", "token_file", "consul://h:1/"],
        ),
        ("consul://h:1/s?wait=5x", &["option=wait", "a length of time"]),
        ("consul://h:1/s?ca=/nowhere/ca.pem", &["option=ca", "file=/nowhere/ca.pem"]),
        (
            "consul://127.0.0.1:1/s?token_file=x",
            &["token file cannot be read", "1 characters, not shown"],
        ),
        ("static:10.0.0.1:80,10.0.0.2", &["no.=2", "address=10.0.0.2", "port is missing"]),
        ("memory:gre eter", &["letters, digits", "8 characters"]),
    ] {
        let error = fleetward::connect(url).await.unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "{url}: {part:?} is not in: {error}");
        }
    }
}
