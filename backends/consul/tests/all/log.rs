//! What is logged, in a process of its own: nextest runs each test in one.

use std::sync::{Arc, Mutex};

use fleetward_core::discovery::Source;
use fleetward_core::registration::Registry;
use fleetward_testkit::servers::Consul;
use tokio::time::timeout;

use crate::support::*;

#[tokio::test]
async fn a_token_is_in_no_log_error_or_debug() {
    let Some(consul) = Consul::builder().with_acl().start_or_skip().await else { return };
    let log = Log::default();
    let text = log.0.clone();
    tracing::subscriber::set_global_default(log).unwrap();
    let canary = "canary-9f3e-not-a-token";
    for config in [config(&consul), fleetward_consul::ConsulConfig::new(["127.0.0.1:1"])] {
        let config = config.with_token(canary);
        tracing::error!("{config:?}");
        let registry = connect(config).await;
        let mut watch = follow(&registry);
        let known = timeout(5 * SECOND, watch.wait_for(|now| !now.freshness.is_pending())).await;
        let error = registry.list(&service("a")).await.unwrap_err();
        let refused = registry.register(&service("a"), &instance(0), TTL).await.unwrap_err();
        tracing::error!("{registry:?} {watch:?} {known:?} {error} {error:?} {refused} {refused:?}");
    }
    let text = text.lock().unwrap();
    println!("{} bytes of log", text.len());
    assert!(text.contains("Consul answered 403"), "nothing was logged");
    assert!(!text.contains("canary"), "{text}");
}

/// Keeps everything that anybody logs at any level.
#[derive(Default)]
struct Log(Arc<Mutex<String>>);

impl tracing::Subscriber for Log {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        self.write(format_args!("{span:?}"));
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, values: &tracing::span::Record<'_>) {
        self.write(format_args!("{values:?}"));
    }

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        self.write(format_args!("{event:?}"));
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

impl Log {
    fn write(&self, text: std::fmt::Arguments<'_>) {
        use std::fmt::Write;
        let mut log = self.0.lock().unwrap();
        writeln!(log, "{text}").unwrap();
    }
}
