//! Many hands at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use octavia_bridge_netlink::{Namespace, Netlink};
use tokio::runtime::Builder;

use crate::scene::{bridge, in_new_namespace, new_namespace, veth};

const WORKERS: usize = 4;
const VETHS: usize = 50;

/// Pods come and go while others read the tables. The dumps are interrupted over and over; no one
/// may see an error, a doubled link, or miss a link that is there all the time.
#[test]
fn fifty_veths_come_and_go_while_the_links_are_read() {
    in_new_namespace(async || {
        let here = Namespace::current().unwrap();
        let octbr = bridge(&Netlink::open().await.unwrap(), "octbr").await;
        let busy = AtomicBool::new(true);
        let readings = thread::scope(|scope| {
            let reader = scope.spawn(|| read_until_quiet(&here, &busy));
            let workers: Vec<_> = (0..WORKERS)
                .map(|worker| {
                    let here = &here;
                    scope.spawn(move || come_and_go(here, worker, octbr.index))
                })
                .collect();
            let results: Vec<_> = workers.into_iter().map(thread::ScopedJoinHandle::join).collect();
            // First let the reader end, then fail if a worker did.
            busy.store(false, Ordering::Relaxed);
            results.into_iter().for_each(Result::unwrap);
            reader.join().unwrap()
        });
        assert!(readings > 0);
        assert_eq!(Netlink::open().await.unwrap().links().await.unwrap().len(), 2, "lo and octbr");
    });
}

fn come_and_go(here: &Namespace, worker: usize, bridge: u32) {
    Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let netlink = Netlink::open_in(here).await.unwrap();
        let pod = new_namespace();
        let share = (worker..VETHS).step_by(WORKERS);
        let mut indexes = Vec::new();
        for number in share {
            let mut new = veth(&format!("veth{number}"), &pod);
            new.peer.name = format!("net{number}");
            new.master = Some(bridge);
            netlink.create_veth(&new).await.unwrap();
            indexes.push(netlink.link(&new.name).await.unwrap().unwrap().index);
        }
        for index in indexes {
            assert!(netlink.delete_link(index).await.unwrap());
        }
    });
}

/// Reads the table again and again; returns how often.
fn read_until_quiet(here: &Namespace, busy: &AtomicBool) -> usize {
    Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let netlink = Netlink::open_in(here).await.unwrap();
        let mut readings = 0;
        while busy.load(Ordering::Relaxed) {
            let links = netlink.links().await.unwrap();
            assert!(links.windows(2).all(|pair| pair[0].index < pair[1].index), "doubled: {links:?}");
            assert!(links.iter().any(|link| link.name == "octbr"), "missing: {links:?}");
            readings += 1;
            thread::yield_now();
        }
        readings
    })
}
