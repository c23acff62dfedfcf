//! The request's body: kept while another attempt may need it, and no longer.

use tonic::Code;

use super::script::*;
use super::*;
use crate::support::*;

/// Fails after it has read so many messages.
fn fails_after(messages: usize) -> Vec<Op> {
    vec![Op::Read(messages), Op::End(Code::Unavailable, vec![])]
}

#[tokio::test]
async fn messages_between_attempts_reach_every_attempt_from_the_first_on() {
    let server = Scripted::start(|n| match n {
        0..3 => fails_after(n + 1),
        _ => answers(),
    })
    .await;
    let channel = server.builder().retry(policy()).build();
    let (tell, names) = stream();
    let called = channel.clone();
    let call = tokio::spawn(async move { gather(&called, names).await });
    // Each message is sent when the attempt that waits for it is there.
    for (n, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
        until("the attempt came", || server.calls() > n).await;
        tell.send(named(name)).await.unwrap();
    }
    drop(tell);
    call.await.unwrap().unwrap();
    let seen = server.seen().clone();
    let names: Vec<_> = seen.iter().map(|stream| stream.names().concat()).collect();
    assert_eq!(names, ["a", "ab", "abc", "abcd"]);
    assert!(seen[3].ended);
    assert_eq!(kept(&channel), 0);
}

#[tokio::test]
async fn a_chat_is_replayed_as_a_stream_of_requests_is() {
    let server = Scripted::start(|n| match n {
        0 => fails_after(2),
        _ => vec![Op::Read(2), Op::Head, Op::Say("two"), Op::ReadAll, Op::End(Code::Ok, vec![])],
    })
    .await;
    let channel = server.builder().retry(policy()).build();
    let (tell, names) = stream();
    tell.send(named("a")).await.unwrap();
    let chat = tokio::spawn(async move { GreetClient::new(channel).chat(names).await });
    until("it began", || server.calls() == 1).await;
    tell.send(named("b")).await.unwrap();
    let mut answers = chat.await.unwrap().unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().message, "two");
    // Committed now: what follows goes straight through.
    tell.send(named("c")).await.unwrap();
    drop(tell);
    assert!(answers.message().await.unwrap().is_none());
    assert_eq!(server.seen()[1].names(), ["a", "b", "c"]);
}

#[tokio::test]
async fn every_attempt_gets_the_same_bytes() {
    let server = Scripted::start(|n| match n {
        0..4 => vec![Op::ReadAll, Op::End(Code::Unavailable, vec![])],
        _ => answers(),
    })
    .await;
    let channel = server.builder().retry(policy().with_max_attempts(5)).build();
    let (tell, names) = stream();
    let called = channel.clone();
    let call = tokio::spawn(async move { gather(&called, names).await });
    let mut rng = fastrand::Rng::with_seed(6);
    for _ in 0..100 {
        let length = rng.usize(0..3000);
        let name: String = std::iter::repeat_with(|| rng.char('!'..)).take(length).collect();
        tell.send(named(name)).await.unwrap();
        if rng.u8(..) < 64 {
            tokio::time::sleep(millis(1)).await;
        }
    }
    drop(tell);
    call.await.unwrap().unwrap();
    let seen = server.seen().clone();
    assert_eq!(seen.len(), 5);
    assert_eq!(seen[0].names().len(), 100);
    assert!(seen.iter().all(|stream| stream.body == seen[0].body && stream.ended));
    assert_eq!(kept(&channel), 0);
}

#[tokio::test]
async fn the_end_of_the_request_is_replayed_too() {
    let server = Scripted::start(|n| match n {
        0 => vec![Op::ReadAll, Op::End(Code::Unavailable, vec![])],
        _ => answers(),
    })
    .await;
    let channel = server.builder().retry(policy()).build();
    let names = tokio_stream::iter(["a", "b"].map(named));
    GreetClient::new(channel).chat(names).await.unwrap();
    until("it has read the end", || server.seen()[1].ended).await;
    assert_eq!(server.seen()[1].names(), ["a", "b"]);
}

/// The attempt goes on; only its failure is final.
#[tokio::test]
async fn more_than_the_limit_commits_the_call() {
    for (fails, code) in [(true, Code::Unavailable), (false, Code::Ok)] {
        let last = if fails { Op::End(Code::Unavailable, vec![]) } else { Op::Head };
        let server = Scripted::always(
            vec![Op::ReadAll, last, Op::Say("fine"), Op::End(Code::Ok, vec![])]
                [..if fails { 2 } else { 4 }]
                .to_vec(),
        )
        .await;
        let channel = server.builder().retry(policy()).replay_limit(100).build();
        let (tell, names) = stream();
        let called = channel.clone();
        let call = tokio::spawn(async move { gather(&called, names).await });
        for i in 0..20 {
            tell.send(named(format!("number {i:0>20}"))).await.unwrap();
            until("it arrives", || server.seen().first().is_some_and(|s| s.names().len() == i + 1))
                .await;
            assert!(kept(&channel) <= 100);
        }
        drop(tell);
        let answer = call.await.unwrap().map_or_else(|s| s.code(), |_| Code::Ok);
        assert_eq!((answer, server.calls()), (code, 1));
        assert_eq!(kept(&channel), 0);
    }
}

#[tokio::test]
async fn a_call_within_the_limit_is_retried_to_the_last_byte_of_it() {
    // Five bytes of framing, two of protobuf, 93 of name.
    for (length, calls) in [(93, 2), (94, 1)] {
        let server = Scripted::start(|n| match n {
            0 => vec![Op::ReadAll, Op::End(Code::Unavailable, vec![])],
            _ => answers(),
        })
        .await;
        let channel = server.builder().retry(policy()).replay_limit(100).build();
        let (tell, names) = stream();
        let call = tokio::spawn(async move { gather(&channel, names).await });
        until("it began", || server.calls() == 1).await;
        tell.send(named("x".repeat(length))).await.unwrap();
        drop(tell);
        assert_eq!(call.await.unwrap().is_ok(), calls == 2);
        assert_eq!(server.calls(), calls);
    }
}

/// What one call keeps, another one cannot; it is made all the same.
#[tokio::test]
async fn the_limit_of_the_channel_holds_for_all_calls_together() {
    let server =
        Scripted::always(vec![Op::Read(1), Op::Sleep(300), Op::End(Code::Aborted, vec![])]).await;
    let policy = policy().with_max_attempts(2).with_codes([Code::Aborted]);
    let channel = server.builder().retry(policy).replay_buffer(10_000).build();
    ready(&channel, 1).await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let channel = channel.clone();
        calls.spawn(async move { morning(&channel, &"x".repeat(6000)).await.unwrap_err().code() });
    }
    until("all came", || server.calls() == 3).await;
    assert!((6000..10_000).contains(&kept(&channel)), "{}", kept(&channel));
    while let Some(code) = calls.join_next().await {
        assert_eq!(code.unwrap(), Code::Aborted);
    }
    assert_eq!(server.calls(), 3 + 1, "the one that was kept is tried again");
    assert_eq!(kept(&channel), 0);
}

#[tokio::test]
async fn nothing_is_kept_once_the_response_has_begun() {
    let server =
        Scripted::always(vec![Op::Read(1), Op::Head, Op::ReadAll, Op::End(Code::Ok, vec![])]).await;
    let channel = server.builder().retry(policy()).build();
    let (tell, names) = stream();
    let big = "x".repeat(10_000);
    tell.send(named(&*big)).await.unwrap();
    let mut answers = GreetClient::new(channel.clone()).chat(names).await.unwrap().into_inner();
    assert_eq!(kept(&channel), 0);
    tell.send(named(&*big)).await.unwrap();
    drop(tell);
    assert!(answers.message().await.unwrap().is_none());
    assert_eq!(server.seen()[0].names().len(), 2);
    assert_eq!(kept(&channel), 0);
}

/// Its stream stays open on the server's side: it must not take part in the call any more.
#[tokio::test]
async fn an_attempt_that_has_failed_reads_no_more_of_the_request() {
    let server = Scripted::start(|n| match n {
        0 => vec![Op::Read(1), Op::End(Code::Unavailable, vec![]), Op::ReadAll],
        _ => answers(),
    })
    .await;
    let channel = server.builder().retry(policy()).replay_limit(100).build();
    let (tell, names) = stream();
    let call = tokio::spawn(async move { gather(&channel, names).await });
    tell.send(named("a")).await.unwrap();
    until("the second attempt has it", || {
        server.seen().get(1).is_some_and(|stream| stream.names().len() == 1)
    })
    .await;
    // Over the limit: the call is committed, and to the attempt that lives.
    tell.send(named("b".repeat(200))).await.unwrap();
    drop(tell);
    call.await.unwrap().unwrap();
    until("the first stream was reset", || server.seen()[0].cancelled).await;
    assert_eq!(server.seen()[0].names(), ["a"]);
    assert_eq!(server.seen()[1].names().len(), 2);
}

#[tokio::test]
async fn a_body_that_fails_ends_the_call() {
    let server = Scripted::always(answers()).await;
    let channel = server.builder().retry(policy()).build();
    let body = tokio_stream::wrappers::ReceiverStream::new({
        let (tell, told) = mpsc::channel(4);
        tokio::spawn(async move {
            let _ = tell.send(Ok(http_body::Frame::data(bytes::Bytes::from_static(b"abc")))).await;
            tokio::time::sleep(millis(20)).await;
            let _ = tell.send(Err(Status::data_loss("the disk is gone"))).await;
        });
        told
    });
    let body = tonic::body::Body::new(http_body_util::StreamBody::new(body));
    let request = http::Request::post("/Greet/Gather").body(body).unwrap();
    let error = tower::ServiceExt::oneshot(channel.clone(), request).await.unwrap_err();
    assert_ne!(error.code(), Code::Ok);
    until("the server hears of it", || server.cancelled() == 1).await;
    assert_eq!((server.calls(), kept(&channel)), (1, 0));
}
