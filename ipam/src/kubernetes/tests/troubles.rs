//! A server that refuses, is silent, cuts connections, or is away.

use super::*;
use crate::wire::Kind;

/// The requests that an ADD consists of.
const STEPS: [(&str, &str); 2] = [("POST", "overlappingrangeipreservations"), ("PATCH", "ippools")];

/// Nothing of a pod is left, whatever was tried.
async fn nothing_is_left(server: &Server, store: &Store, n: usize) {
    server.heal();
    // As the broker does for a plugin that leaves a tombstone.
    let begun = Instant::now();
    while let Err(failure) = del(store, &attachment(n)).await {
        assert!(begun.elapsed() < Duration::from_secs(60), "{failure}");
        sleep(Duration::from_secs(2)).await;
    }
    assert_eq!(entries(server, "172.23.0.0-24"), ["30 c1"]);
    assert_eq!(reservations(server), ["172.23.0.30 c1"]);
}

#[tokio::test(start_paused = true)]
async fn what_happens_once_is_overcome() {
    let faults = [
        Fault::Status(429),
        Fault::Status(500),
        Fault::StatusAfter(500),
        Fault::StatusAfter(504),
        Fault::Cut,
        Fault::CutAfter,
    ];
    let conflicts = [Fault::Status(409), Fault::Status(422), Fault::Status(404)];
    for (step, (method, path)) in STEPS.into_iter().enumerate() {
        let conflicts = conflicts.into_iter().filter(|_| step == 1);
        for (i, fault) in faults.into_iter().chain(conflicts).enumerate() {
            let seed = (100 * step + i) as u64;
            let server = Server::new(seed);
            let store = agent(&server, "node-1", seed);
            add(&store, &claim(&octavia(), 1)).await.unwrap();
            server.fail(method, path, 1, fault);
            let begun = Instant::now();
            let added = add(&store, &claim(&octavia(), 2)).await;
            assert_eq!(added.as_deref(), Ok(["172.23.0.31/24".to_owned()].as_slice()), "{method} {fault:?}");
            assert!(
                begun.elapsed() < Duration::from_millis(1500),
                "{method} {fault:?}: {:?}",
                begun.elapsed()
            );
            assert_eq!(entries(&server, "172.23.0.0-24"), ["30 c1", "31 c2"], "{method} {fault:?}");
            assert_eq!(reservations(&server), ["172.23.0.30 c1", "172.23.0.31 c2"], "{method} {fault:?}");
            nothing_is_left(&server, &store, 2).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_end_is_said_within_five_seconds_with_its_cause() {
    let faults = [
        (Fault::Status(401), "401 Unauthorized: injected (the agent's token has expired"),
        (Fault::Status(403), "403 Forbidden: injected"),
        (Fault::Status(500), "500 Internal Server Error: injected"),
        (Fault::StatusAfter(500), "500 Internal Server Error: injected"),
        (Fault::Cut, "connection reset"),
        (Fault::CutAfter, "connection reset"),
        (Fault::Silent, "no answer within"),
        (Fault::SilentAfter, "no answer within"),
    ];
    for (method, path) in STEPS {
        for (i, (fault, cause)) in faults.into_iter().enumerate() {
            let server = Server::new(i as u64);
            let store = agent(&server, "node-1", i as u64);
            add(&store, &claim(&octavia(), 1)).await.unwrap();
            server.fail(method, path, 1000, fault);
            // That it can be read meanwhile does not help.
            match i % 3 {
                0 => {}
                1 => server.fail("GET", path, 1000, fault),
                _ => server.fail("GET", path, 1000, Fault::Silent),
            }
            let turn = store.turn(&attachment(2)).await;
            let begun = Instant::now();
            let claimed = store.claim(&turn, &claim(&octavia(), 2), soon()).await;
            assert!(begun.elapsed() < Duration::from_secs(5), "{method} {fault:?}: {:?}", begun.elapsed());
            let Refused { error, residue } = match claimed {
                Err(refused) => refused,
                // What was done all the same, and was seen to be.
                Ok(_) if i % 3 == 0 && matches!(fault, Fault::StatusAfter(_) | Fault::CutAfter) => {
                    assert_eq!(entries(&server, "172.23.0.0-24"), ["30 c1", "31 c2"], "{method} {fault:?}");
                    assert_eq!(
                        reservations(&server),
                        ["172.23.0.30 c1", "172.23.0.31 c2"],
                        "{method} {fault:?}"
                    );
                    continue;
                }
                Ok(claimed) => panic!("{method} {fault:?}: {claimed:?}"),
            };
            let failure = Failure::from(&error);
            assert_eq!(failure.kind, Kind::Unavailable, "{method} {fault:?}: {failure}");
            let text = failure.message;
            assert!(
                text.contains(path) && text.contains("https://api.test:6443"),
                "{method} {fault:?}: {text}"
            );
            assert!(text.contains(cause) || text.contains("no answer within"), "{method} {fault:?}: {text}");
            server.heal();
            if let Some(residue) = residue {
                store.undo(&turn, residue, soon()).await.unwrap();
            }
            drop(turn);
            assert_eq!(entries(&server, "172.23.0.0-24"), ["30 c1"], "{method} {fault:?}");
            assert_eq!(reservations(&server), ["172.23.0.30 c1"], "{method} {fault:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_undone_goes_with_the_release() {
    for (method, path) in STEPS {
        let server = Server::new(31);
        let store = agent(&server, "node-1", 31);
        add(&store, &claim(&octavia(), 1)).await.unwrap();
        server.fail(method, path, 1, Fault::SilentAfter);
        for other in ["GET", "PATCH", "DELETE"] {
            server.fail(other, "", 1000, Fault::Cut);
        }
        // The watch tells nothing either: it is the store that remembers what it may have done.
        server.deafen(true);
        add(&store, &claim(&octavia(), 2)).await.unwrap_err();
        assert!(reservations(&server).contains(&"172.23.0.31 c2".to_owned()));
        nothing_is_left(&server, &store, 2).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_release_frees_nothing_by_halves_and_can_be_repeated() {
    for (method, path) in [("PATCH", "ippools"), ("DELETE", "overlappingrangeipreservations")] {
        for fault in [Fault::Status(500), Fault::CutAfter, Fault::SilentAfter, Fault::Status(403)] {
            let server = Server::new(41);
            let store = agent(&server, "node-1", 41);
            for n in [1, 2] {
                add(&store, &claim(&octavia(), n)).await.unwrap();
            }
            server.fail(method, path, 1000, fault);
            server.fail("GET", "", 1000, Fault::Cut);
            // The watch may tell of a deletion whose reply was lost.
            if let Err(failure) = del(&store, &attachment(2)).await {
                assert_eq!(failure.kind, Kind::Unavailable);
            } else {
                assert!((method, fault) == ("DELETE", Fault::CutAfter), "{method} {fault:?}");
            }
            // An address may be reserved without being in use, never the other way round.
            let used = entries(&server, "172.23.0.0-24").len();
            assert!(used <= reservations(&server).len(), "{method} {fault:?}");
            nothing_is_left(&server, &store, 2).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_was_never_there_is_named() {
    let server = Server::new(51);
    server.fail("", "", usize::MAX, Fault::Cut);
    let store = agent(&server, "node-1", 51);
    let begun = Instant::now();
    let failure = add(&store, &claim(&octavia(), 1)).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(failure.kind, Kind::Unavailable);
    assert!(failure.message.contains("connection reset"), "{failure}");
    assert_eq!(del(&store, &attachment(1)).await.unwrap_err().kind, Kind::Unavailable);
    server.heal();
    sleep(Duration::from_secs(10)).await;
    add(&store, &claim(&octavia(), 1)).await.unwrap();
}

/// A server without the right to watch, or one whose watches do not come about.
#[tokio::test(start_paused = true)]
async fn while_nothing_is_heard_pools_are_read_before_use() {
    let server = Server::new(61);
    let store = agent(&server, "node-1", 61);
    add(&store, &claim(&octavia(), 1)).await.unwrap();
    server.deafen(true);
    sleep(Duration::from_secs(20)).await;
    let entry = json!({ "id": "c9", "podref": "ns/pod", "ifname": "net1" });
    let mut pool = server.object(POOLS, "172.23.0.0-24").unwrap();
    pool["spec"]["allocations"]["31"] = entry;
    server.put(POOLS, "172.23.0.0-24", Some(pool));
    server.requests();
    assert_eq!(add(&store, &claim(&octavia(), 2)).await.unwrap(), ["172.23.0.32/24"]);
    assert_eq!(server.requests()[0], "GET kube-system/ippools/172.23.0.0-24");
    assert_eq!(del(&store, &attachment(3)).await.unwrap_err().kind, Kind::Unavailable, "nobody knows");
    server.deafen(false);
    sleep(Duration::from_secs(20)).await;
    assert_eq!(del(&store, &attachment(3)).await.unwrap(), 0);
}

/// A watch of which nothing is heard is no fault, be it that there is nothing to tell or that it leads nowhere.
#[tokio::test(start_paused = true)]
async fn a_quiet_watch_is_begun_anew_and_nobody_is_told() {
    let server = Server::new(65);
    let store = agent(&server, "node-1", 65);
    add(&store, &claim(&octavia(), 1)).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    let told = store.inner.shared.watches.subscribe();
    sleep(Duration::from_secs(600)).await;
    server.lose_watches(true);
    let mut pool = server.object(POOLS, "172.23.0.0-24").unwrap();
    pool["spec"]["allocations"]["31"] = json!({ "id": "c9", "podref": "ns/pod", "ifname": "net1" });
    server.put(POOLS, "172.23.0.0-24", Some(pool));
    sleep(Duration::from_secs(10)).await;
    server.lose_watches(false);
    let is_told = || !lock(&store.inner.shared.cache).pools.get("172.23.0.0-24").unwrap().is_current();
    assert!(!is_told());
    sleep(Duration::from_secs(90)).await;
    assert!(is_told());
    keep_up(&store).await;
    assert_eq!(used(&store), 2);
    assert!(!told.has_changed().unwrap(), "{:?}", *told.borrow());
}

#[tokio::test(start_paused = true)]
async fn one_pools_trouble_is_not_anothers() {
    let server = Server::new(71);
    let store = agent(&server, "node-1", 71);
    let blue = json!({ "range": "10.0.0.0/24" });
    for network in [&octavia(), &blue] {
        add(&store, &claim(network, 0)).await.unwrap();
        del(&store, &attachment(0)).await.unwrap();
    }
    server.fail("", "172.23.0.0-24", 1000, Fault::Silent);
    let stuck: Vec<Claim> = (1..=30).map(|n| claim(&octavia(), n)).collect();
    let others: Vec<Claim> = (31..=60).map(|n| claim(&blue, n)).collect();
    let begun = Instant::now();
    let (stuck, took) =
        tokio::join!(futures_util::future::join_all(stuck.iter().map(|claim| add(&store, claim))), async {
            for added in futures_util::future::join_all(others.iter().map(|claim| add(&store, claim))).await {
                added.unwrap();
            }
            begun.elapsed()
        });
    assert!(stuck.iter().all(Result::is_err));
    assert!(took < Duration::from_millis(300), "{took:?}");
}

/// One request of a pool is not answered in time, and those of another pool are, or nobody asks for one.
#[tokio::test(start_paused = true)]
async fn a_server_that_answers_others_is_busy_and_waited_for() {
    let second = Duration::from_secs(1);
    let blue = json!({ "range": "10.0.0.0/24" });
    for (fault, others, error, took) in [
        (Fault::Late(7 * second), true, "", 7),
        (Fault::Late(7 * second), false, "no answer within 4.0 s", 4),
        // Lost on the way, and asked again.
        (Fault::Silent, true, "", 10),
    ] {
        let server = Server::new(81);
        let store = agent(&server, "node-1", 81);
        add(&store, &claim(&octavia(), 1)).await.unwrap();
        server.fail("PATCH", "172.23.0.0-24", 1, fault);
        let begun = Instant::now();
        let one = async { (add(&store, &claim(&octavia(), 2)).await, begun.elapsed()) };
        let rest = async {
            for n in 0..if others { 12 } else { 0 } {
                add(&store, &claim(&blue, 10 + n)).await.unwrap();
                sleep(second).await;
            }
        };
        let ((added, after), ()) = tokio::join!(one, rest);
        assert_eq!(after.as_secs(), took, "{fault:?}, others: {others}");
        match added {
            Ok(addresses) => assert_eq!((error, addresses), ("", vec!["172.23.0.31/24".to_owned()])),
            Err(failure) => assert!(!error.is_empty() && failure.message.contains(error), "{failure}"),
        }
    }
}

/// Claims come in as their reservations are made. While the server is slow, a few large requests are made of them.
#[tokio::test(start_paused = true)]
async fn claims_on_their_way_to_a_slow_server_are_waited_for() {
    let milliseconds = Duration::from_millis;
    let server = Server::new(91);
    let store = agent(&server, "node-1", 91);
    add(&store, &claim(&octavia(), 0)).await.unwrap();
    server.requests();
    server.fail("POST", "", usize::MAX, Fault::Late(milliseconds(100)));
    server.fail("PATCH", "", usize::MAX, Fault::Late(milliseconds(300)));
    let claims: Vec<Claim> = (1..=40).map(|n| claim(&octavia(), n)).collect();
    for added in futures_util::future::join_all(claims.iter().map(|claim| add(&store, claim))).await {
        added.unwrap();
    }
    let patches = server.requests().iter().filter(|request| request.starts_with("PATCH")).count();
    assert!(patches <= 2, "{patches} requests");
    // Nobody else is coming: nothing is waited for, however slow the last one was.
    server.heal();
    let begun = Instant::now();
    del(&store, &attachment(0)).await.unwrap();
    add(&store, &claim(&octavia(), 41)).await.unwrap();
    assert!(begun.elapsed() < milliseconds(100), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_the_same_attachment_learns_that_the_server_is_away() {
    let server = Server::new(4);
    let store = agent(&server, "node-1", 4);
    add(&store, &claim(&octavia(), 1)).await.unwrap();
    // An entry whose removal gets no answer, and which cannot be read after.
    server.fail("", "/ippools/", usize::MAX, Fault::Silent);
    let one = attachment(1);
    let released = del(&store, &one);
    let began = Instant::now();
    let waiting = async {
        sleep(Duration::from_secs(1)).await;
        store.turn_unless_away(&one, soon()).await.map(drop)
    };
    let (released, turn) = futures_util::future::join(released, waiting).await;
    assert_eq!(released.unwrap_err().kind, Kind::Unavailable);
    assert!(matches!(&turn, Err(Error::Api(cause)) if cause.is_passing()), "{turn:?}");
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
}
