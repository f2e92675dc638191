//! Waiting for a port to forward.

use std::thread;
use std::time::{Duration, Instant};

use octavia_bridge_netlink::{BridgeOptions, Error, Link, Namespace, Netlink, OperationalState, PortState};
use tokio::runtime::Builder;

use crate::scene::{bridge, in_new_namespace, new_namespace, up, veth};

const PATIENCE: Duration = Duration::from_secs(10);

/// Sets the pod's end up after a while; returns when that was done.
fn set_up_later(pod: Namespace, name: String) -> thread::JoinHandle<Instant> {
    thread::spawn(move || {
        // Shortly after one of the waiter's own readings, which come every 100 ms.
        thread::sleep(Duration::from_millis(120));
        Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let inside = Netlink::open_in(&pod).await.unwrap();
            let far = inside.link(&name).await.unwrap().unwrap();
            inside.change_link(far.index, &up()).await.unwrap();
            Instant::now()
        })
    })
}

#[test]
fn an_event_ends_the_wait_and_not_the_next_reading() {
    in_new_namespace(async || {
        let netlink = Netlink::open().await.unwrap();
        let pod = new_namespace();
        let octbr = bridge(&netlink, "octbr").await;
        let mut shortest = PATIENCE;
        // Without events each round would take the rest of its 100 ms; on a busy machine any of them may, but not all.
        for round in 0..10 {
            if shortest < Duration::from_millis(50) {
                break;
            }
            let mut new = veth(&format!("a{round}"), &pod);
            new.peer.name = format!("net{round}");
            new.master = Some(octbr.index);
            netlink.create_veth(&new).await.unwrap();
            let port = netlink.link(&new.name).await.unwrap().unwrap();
            assert!(!port.is_forwarding(), "{port:?}");

            let done = set_up_later(pod.clone(), new.peer.name.clone());
            let seen = netlink.wait_for_link(port.index, PATIENCE, Link::is_forwarding).await.unwrap();
            let now = Instant::now();
            assert_eq!((seen.index, seen.carrier), (port.index, true));
            shortest = shortest.min(now.saturating_duration_since(done.join().unwrap()));
            // What holds already costs no waiting at all, not even with no time left.
            netlink.wait_for_link(port.index, Duration::ZERO, Link::is_forwarding).await.unwrap();
        }
        assert!(shortest < Duration::from_millis(50), "{shortest:?}");
    });
}

#[test]
fn a_port_that_forwards_sends_as_well() {
    in_new_namespace(async || {
        let netlink = Netlink::open().await.unwrap();
        let octbr = bridge(&netlink, "octbr").await;
        // On Linux 6.1 about every fourth was caught before its queue discipline was in place.
        for round in 0..40 {
            let pod = new_namespace();
            let mut new = veth("a", &pod);
            new.master = Some(octbr.index);
            netlink.create_veth(&new).await.unwrap();
            let inside = Netlink::open_in(&pod).await.unwrap();
            let far = inside.link("net1").await.unwrap().unwrap();
            inside.change_link(far.index, &up()).await.unwrap();
            let seen = netlink.wait_for_link("a", PATIENCE, Link::is_forwarding).await.unwrap();
            assert_eq!(seen.operational, OperationalState::Up, "round {round}");
            netlink.delete_link(seen.index).await.unwrap();
        }
    });
}

#[test]
fn a_deadline_tells_what_the_port_was_doing_instead() {
    in_new_namespace(async || {
        let netlink = Netlink::open().await.unwrap();
        let pod = new_namespace();
        let octbr = bridge(&netlink, "octbr").await;
        // With STP the port listens for the forward delay, 15 s unless set.
        let stp = BridgeOptions { stp: Some(true), ..BridgeOptions::default() };
        netlink.change_bridge(octbr.index, &stp).await.unwrap();
        let mut new = veth("a", &pod);
        new.master = Some(octbr.index);
        netlink.create_veth(&new).await.unwrap();
        let inside = Netlink::open_in(&pod).await.unwrap();
        let far = inside.link("net1").await.unwrap().unwrap();
        inside.change_link(far.index, &up()).await.unwrap();

        let port = netlink.link("a").await.unwrap().unwrap();
        let listening = |link: &Link| link.port.as_ref().unwrap().state == PortState::Listening;
        netlink.wait_for_link(port.index, PATIENCE, listening).await.unwrap();
        let started = Instant::now();
        let wait = netlink.wait_for_link(port.index, Duration::from_millis(250), Link::is_forwarding);
        let error = wait.await.unwrap_err();
        assert!((250..2000).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
        assert!(error.to_string().ends_with("its bridge port listening"), "{error}");
        let Error::Timeout { link: Some(link), .. } = error else { panic!("{error:?}") };
        assert_eq!(link.port.unwrap().state, PortState::Listening);
    });
}

#[test]
fn a_link_that_is_gone_is_not_waited_for() {
    in_new_namespace(async || {
        let netlink = Netlink::open().await.unwrap();
        let pod = new_namespace();
        netlink.create_veth(&veth("a", &pod)).await.unwrap();
        let near = netlink.link("a").await.unwrap().unwrap();
        // The pod is deleted while somebody waits: its end goes, and this one with it.
        let killer = thread::spawn(move || {
            thread::sleep(Duration::from_millis(100));
            drop(pod);
        });
        let started = Instant::now();
        let error = netlink.wait_for_link(near.index, PATIENCE, Link::is_forwarding).await.unwrap_err();
        assert!(error.is_not_found(), "{error:?}");
        assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
        killer.join().unwrap();
    });
}
