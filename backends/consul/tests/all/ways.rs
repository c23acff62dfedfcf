//! The way to an agent: proxies, paths, sockets, the environment, and what is not Consul at all.

use std::process::Stdio;
use std::time::Duration;

use fleetward_consul::{ConsulConfig, ConsulRegistry};
use fleetward_core::ErrorKind;
use fleetward_core::discovery::Source;
use fleetward_core::registration::Registry;
use fleetward_core::registry::RegistryUrl;
use fleetward_testkit::eventually;
use fleetward_testkit::servers::{Consul, Etcd};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::lossy::Lossy;
use crate::scripted::{Say, Scripted};
use crate::support::*;

fn waits(proxy: &Lossy) -> Vec<u64> {
    let wait = |path: &String| path.rsplit_once("wait=")?.1.strip_suffix("ms")?.parse().ok();
    proxy.paths().iter().filter_map(wait).collect()
}

#[tokio::test]
async fn a_proxy_that_cuts_queries_costs_no_stale_moment_and_is_learnt() {
    let Some(consul) = Consul::start_or_skip().await else { return };
    put_plain(&consul, "a", "1", "10.0.0.1").await;
    for (says_so, count) in [(true, 1), (false, 2)] {
        let patience = 2 * SECOND;
        let proxy = Lossy::impatient(&consul, patience, says_so).await;
        let registry = connect(ConsulConfig::new([proxy.endpoint()])).await;
        let mut watch = follow(&registry);
        converged(&mut watch, count, 5 * SECOND).await;
        let begun = Instant::now();
        let learnt = || waits(&proxy).last().is_some_and(|wait| *wait < 2000);
        let mut published = 0;
        while !learnt() {
            tokio::select! {
                now = watch.changed() => {
                    let now = now.unwrap();
                    assert!(!now.freshness.is_stale(), "{now:?}");
                    published += 1;
                }
                () = sleep(SECOND / 10) => {}
            }
            assert!(begun.elapsed() < 60 * SECOND, "{:?}", proxy.paths());
        }
        assert_eq!(published, 0, "nothing has changed");
        put_plain(&consul, "a", &format!("more {count}"), "10.0.0.2").await;
        converged(&mut watch, count + 1, 5 * SECOND).await;
        // It is said only where the agent does not answer afterwards.
        drop(proxy);
        let stale = watch.wait_for(|now| now.freshness.is_stale()).await.unwrap();
        assert!(stale.freshness.error().is_some());
    }
}

#[tokio::test]
async fn the_error_after_a_cut_names_the_wait() {
    let Some(consul) = Consul::start_or_skip().await else { return };
    let registry = registry(&consul).await;
    let mut watch = Watch::open(&registry, "a").await;
    sleep(SECOND).await;
    consul.kill().await;
    let error = watch.error(5 * SECOND).await;
    assert!(error.context("hint").unwrap().contains("wait"), "{error}");
    assert!(error.context("cut off after").is_some(), "{error}");
}

#[tokio::test]
async fn what_is_not_consul_registers_nothing() {
    let html = |status, lines: &[&str], body: &str| {
        let mut lines: Vec<_> = lines.iter().map(|line| (*line).to_owned()).collect();
        lines.push("Content-Type: text/html; charset=utf-8".to_owned());
        Say::Answer(status, lines, body.to_owned())
    };
    for page in [
        html(200, &[], "<!DOCTYPE html><title>Welcome</title>"),
        html(302, &["Location: http://login.example/"], "<a>Log in</a>"),
        html(404, &[], "<html>Not Found</html>"),
        Say::Answer(200, Vec::new(), String::new()),
        Say::Answer(200, Vec::new(), "OK".to_owned()),
        Say::Answer(204, Vec::new(), String::new()),
        Say::Answer(200, Vec::new(), "{}".to_owned()),
        Say::Answer(404, Vec::new(), "404 page not found\n".to_owned()),
    ] {
        let server = Scripted::start([], page.clone()).await;
        let registry = connect(server.config()).await;
        let error = registry.register(&service("a"), &instance(0), TTL).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{page:?}: {error}");
        let text = error.to_string();
        assert!(text.contains("not Consul") || text.contains("cannot be read"), "{text}");
        assert!(registry.list(&service("a")).await.is_err(), "{page:?}");
        assert!(!error.is_permanent(), "somebody may log in");
    }
    // It stands, and then a page is in its place: that is no word about the registration.
    let ok = Say::Answer(200, Vec::new(), String::new());
    let page = html(200, &[], "<html>");
    let server = Scripted::start([Say::nobody(), ok, Say::Stands, page.clone()], page).await;
    let registry = connect(server.config()).await;
    let mut lease = register(&registry, 0).await.lease;
    for _ in 0..2 {
        assert!(registry.keep_alive(&mut lease).await.is_err());
    }
    assert!(registry.deregister(lease).await.is_err());
}

#[tokio::test]
async fn what_answers_at_a_wrong_port_is_named() {
    let Some(consul) = Consul::builder().with_tls().start_or_skip().await else { return };
    let Some(etcd) = Etcd::start_or_skip().await else { return };
    let tls = consul.tls();
    let at_plain = ConsulConfig::new([consul.endpoint()]).with_ca_file(tls.ca());
    let at_tls = ConsulConfig::new([consul.secure_endpoint()]);
    let address = etcd.endpoint();
    let address = address.strip_prefix("http://").unwrap_or(&address).to_owned();
    let at_etcd = ConsulConfig::new([address.clone()]);
    let etcds = format!("etcd://{address}");
    for (config, part) in
        [(at_plain, "write consul://"), (at_tls, "write consuls://"), (at_etcd, etcds.as_str())]
    {
        let registry = connect(config).await;
        let errors = [
            registry.list(&service("a")).await.unwrap_err(),
            registry.register(&service("a"), &instance(0), TTL).await.unwrap_err(),
        ];
        for error in errors {
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}

#[tokio::test]
async fn what_speaks_no_http_is_named() {
    let settings: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    let alert: &[u8] = &[0x15, 3, 1, 0, 2, 2, 22];
    for (bytes, part) in [(settings, "HTTP/2"), (alert, "write consuls://")] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let mut task = JoinSet::new();
        task.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 4096];
                let _read = stream.read(&mut request).await;
                let _written = stream.write_all(bytes).await;
            }
        });
        let registry = connect(ConsulConfig::new([endpoint])).await;
        let error = registry.list(&service("a")).await.unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
        let error = registry.register(&service("a"), &instance(0), TTL).await.unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[tokio::test]
async fn a_base_path_and_a_user_are_sent_with_each_request() {
    let empty = Say::health("5", "[]");
    let server = Scripted::start([], empty).await;
    let url = |text: &str| RegistryUrl::parse(&text.replace("HOST", &server.endpoint())).unwrap();
    let mut parsed = url("consul://user:p%40ss-canary@HOST/mesh/consul/a");
    assert_eq!(parsed.take_service().unwrap().unwrap().as_str(), "a");
    let config = ConsulConfig::from_url(parsed).unwrap();
    let registry = connect(config).await;
    registry.list(&service("a")).await.unwrap();
    assert_eq!(server.paths(), ["/mesh/consul/v1/health/service/a?passing=1"]);
    assert!(server.heads().contains("Basic dXNlcjpwQHNzLWNhbmFyeQ=="), "{}", server.heads());
    let error = registry.register(&service("a"), &instance(0), TTL).await.unwrap_err();
    assert!(!format!("{registry:?} {error:?}").contains("canary"));

    let file = std::env::temp_dir().join(format!("fleetward-password-{}", std::process::id()));
    std::fs::write(&file, "other\n").unwrap();
    let config = url(&format!("consul://user@HOST?password_file={}", file.display()));
    let registry = connect(ConsulConfig::from_url(config).unwrap()).await;
    registry.list(&service("a")).await.unwrap();
    assert!(server.heads().contains("Basic dXNlcjpvdGhlcg=="), "{}", server.heads());
    std::fs::remove_file(&file).unwrap();
}

#[tokio::test]
async fn an_agent_is_reached_through_its_socket() {
    let Some(consul) = Consul::start_or_skip().await else { return };
    let socket = std::env::temp_dir().join(format!("fleetward-{}.sock", std::process::id()));
    let listener = UnixListener::bind(&socket).unwrap();
    let (mut task, agent) = (JoinSet::new(), consul.endpoint());
    task.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let agent = agent.clone();
            connections.spawn(async move {
                let mut server = TcpStream::connect(agent).await?;
                copy_bidirectional(&mut stream, &mut server).await
            });
        }
    });
    let url = format!("consul:///a?socket={}", socket.display());
    let url = ConsulConfig::from_url(
        RegistryUrl::parse(&url)
            .map(|mut url| {
                url.take_service().unwrap();
                url
            })
            .unwrap(),
    );
    let text = format!("unix://{}", socket.display());
    for config in [ConsulConfig::new([text]).with_token("of no use"), url.unwrap()] {
        let registry = connect(config).await;
        let mut watch = follow(&registry);
        let registration = keep(&registry, 0, TTL).await;
        converged(&mut watch, 1, 5 * SECOND).await;
        registration.deregister().await.unwrap();
        converged(&mut watch, 0, 5 * SECOND).await;
    }
    std::fs::remove_file(&socket).unwrap();
}

#[tokio::test]
async fn a_url_without_a_host_takes_the_environments_agent_and_a_refused_token_is_named() {
    let Some(consul) = Consul::builder().with_acl().start_or_skip().await else { return };
    let run = async |token: &str| {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "ways::child", "--ignored", "--nocapture"])
            .env("FLEETWARD_TEST_CHILD", "consul:///a")
            .env("CONSUL_HTTP_ADDR", format!("http://{}", consul.endpoint()))
            .env("CONSUL_HTTP_TOKEN", token)
            .stdin(Stdio::null())
            .output()
            .await
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let good = run(consul.root_token()).await;
    assert!(good.contains("registered and listed 1"), "{good}");
    let refused = run("canary-refused").await;
    assert!(refused.contains("environment (CONSUL_HTTP_TOKEN)"), "{refused}");
    assert!(!refused.contains("canary"), "{refused}");
}

/// Not a test of its own: what another test runs in another process.
#[tokio::test]
#[ignore = "runs in the child process of another test"]
async fn child() {
    let Ok(url) = std::env::var("FLEETWARD_TEST_CHILD") else { return };
    let mut url = RegistryUrl::parse(&url).unwrap();
    let service = url.take_service().unwrap().unwrap();
    let registry = ConsulRegistry::connect(ConsulConfig::from_url(url).unwrap()).await.unwrap();
    match registry.register(&service, &instance(0), TTL).await {
        Err(error) => println!("{error} {error:?}"),
        Ok(leased) => {
            let seen = || async { registry.list(&service).await.unwrap().entries.len() == 1 };
            eventually("it is listed", Duration::from_secs(10), seen).await;
            println!("registered and listed 1");
            registry.deregister(leased.lease).await.unwrap();
        }
    }
}
