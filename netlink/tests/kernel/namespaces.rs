//! Namespaces by path and by identity.

use std::fs;
use std::io;
use std::path::Path;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use octavia_bridge_netlink::{Error, Namespace, Netlink};

use crate::scene::{in_new_namespace, new_namespace};

#[test]
fn identity_tells_namespaces_apart_and_paths_do_not() {
    in_new_namespace(async || {
        let here = Namespace::current().unwrap();
        let again = Namespace::open("/proc/thread-self/ns/net").unwrap();
        assert_eq!(here.identity(), again.identity());
        let other = new_namespace();
        assert_ne!(here.identity(), other.identity());
        assert_eq!(here.path(), other.path(), "both were opened by this path");
        let inside = other.run(|| Namespace::current().unwrap()).unwrap();
        assert_eq!(inside.identity(), other.identity());
        assert_eq!(Namespace::current().unwrap().identity(), here.identity(), "this thread never moved");
    });
}

#[test]
fn what_is_no_network_namespace_is_refused_by_name() {
    in_new_namespace(async || {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing");
        let error = Namespace::open(&missing).unwrap_err();
        assert!(error.is_not_found(), "{error:?}");
        assert_eq!(error.to_string(), format!("open network namespace {}", missing.display()));

        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let fifo = folder.path().join("fifo");
        mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        // A FIFO without a writer must not block: this would not end.
        for path in [&file, &fifo, Path::new("/proc/self/ns/mnt"), Path::new("/proc")] {
            // A namespace of another kind shows when it is entered.
            let error = Namespace::open(path).and_then(|namespace| namespace.run(|| ())).unwrap_err();
            assert!(error.to_string().contains(&path.display().to_string()), "{error}");
            let Error::Namespace { source, .. } = &error else { panic!("{error:?}") };
            assert_eq!(source.to_string(), "it is not a network namespace");
            assert!(!error.is_not_found());
        }
    });
}

#[test]
fn work_inside_sees_the_namespaces_own_settings() {
    in_new_namespace(async || {
        let pod = new_namespace();
        let setting = "/proc/sys/net/ipv4/ip_forward";
        let set = || -> io::Result<String> {
            fs::write(setting, "1")?;
            fs::read_to_string(setting)
        };
        assert_eq!(pod.run(set).unwrap().unwrap().trim(), "1");
        assert_eq!(fs::read_to_string(setting).unwrap().trim(), "0", "untouched here");
    });
}

#[test]
#[should_panic(expected = "inside the namespace")]
fn a_panic_inside_is_a_panic_outside() {
    let pod = new_namespace();
    let _ = pod.run(|| panic!("inside the namespace"));
}

#[test]
fn a_socket_stays_in_its_namespace() {
    in_new_namespace(async || {
        let pod = new_namespace();
        let inside = Netlink::open_in(&pod).await.unwrap();
        let here = Netlink::open().await.unwrap();
        crate::scene::bridge(&inside, "inside").await;
        assert_eq!(here.link("inside").await.unwrap(), None);
        assert_eq!(inside.namespace().identity(), pod.identity());
        // The handle keeps the namespace alive when every other reference is gone.
        drop(pod);
        assert!(inside.link("inside").await.unwrap().is_some());
    });
}

#[test]
fn a_thread_inside_does_one_thing_after_the_other() {
    in_new_namespace(async || {
        let pod = new_namespace();
        let (inside, netlink) = Netlink::open_with_thread(&pod).await.unwrap();
        let identity = || Namespace::current().unwrap().identity();
        assert_eq!(inside.run(identity).unwrap(), pod.identity());
        assert_eq!(netlink.links().await.unwrap().len(), 1, "lo alone");
        assert_eq!(inside.run(identity).unwrap(), pod.identity());
        drop(inside);
        assert!(netlink.link("lo").await.unwrap().is_some(), "the socket outlives the thread");

        let (broken, _netlink) = Netlink::open_with_thread(&pod).await.unwrap();
        let error = broken.run(|| panic!("on purpose")).unwrap_err();
        assert!(error.to_string().contains("network namespace"), "{error}");
        assert!(broken.run(|| ()).is_err());
        let other = Namespace::open("/proc/self/ns/mnt").unwrap();
        let error = Netlink::open_with_thread(&other).await.unwrap_err();
        assert!(matches!(error, Error::Namespace { .. }), "{error:?}");
    });
}
