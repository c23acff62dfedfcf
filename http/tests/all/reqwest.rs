//! Over reqwest, as the README has it.

use std::sync::Arc;

use fleetward_core::discovery::FixedInstancer;
use fleetward_core::{Error, Instance};
use fleetward_http::{Client, Origin, RequestBody};
use http::{Request, Response};
use http_body_util::BodyExt;
use tower::service_fn;

use crate::server::{Server, dead_instance};

fn clients(http: reqwest::Client, follows: bool) -> impl fleetward_core::Factory<Origin<Service>> {
    move |instance: Arc<Instance>| {
        let http = http.clone();
        let send = service_fn(move |request: Request<RequestBody>| {
            let http = http.clone();
            async move {
                let request = request.map(reqwest::Body::wrap).try_into()?;
                let response = http.execute(request).await?;
                Ok::<_, reqwest::Error>(Response::<reqwest::Body>::from(response))
            }
        });
        async move {
            let origin = Origin::new(&instance, Service::new(send))?;
            Ok::<_, Error>(if follows { origin } else { origin.without_redirects() })
        }
    }
}

type Service =
    tower::util::BoxCloneSyncService<Request<RequestBody>, Response<reqwest::Body>, reqwest::Error>;

#[tokio::test]
async fn a_post_goes_elsewhere_where_no_connection_stands() {
    let server = Server::start().await;
    let list = FixedInstancer::new("shop", [dead_instance().await, server.instance()]);
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    let client = Client::builder(list).build_on(clients(http.build().unwrap(), false));
    client.endpoints().wait_for(|set| set.ready().len() == 2).await;
    for _ in 0..6 {
        let request = Request::post("/orders").body("one".to_owned()).unwrap();
        let response = client.send(request).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), server.id());
    }
    let seen = server.seen();
    assert!(seen.len() == 6 && seen.iter().all(|seen| seen.body == "one"), "{seen:?}");
}

#[tokio::test]
async fn a_redirect_that_it_follows_to_a_dead_host_does_not_repeat_a_post() {
    let (server, dead) = (Server::start().await, dead_instance().await);
    let list = FixedInstancer::new("shop", [server.instance()]);
    let client = Client::builder(list).build_on(clients(reqwest::Client::new(), true));
    server.then(
        Response::builder().status(303).header("location", format!("http://{}/", dead.address())),
    );
    let request = Request::post("/orders").body("one".to_owned()).unwrap();
    let error = client.send(request).await.unwrap_err();
    assert_eq!(server.seen().len(), 1, "{error}");
}
