use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;

use super::{Seat, extended, instead, pin, release, select};
use crate::model::balance::Balance;
use crate::model::listen::ListenSpec;
use crate::os::socket;

/// A group of so many on the address.
fn group(address: &str, count: usize) -> (Vec<OwnedFd>, u16) {
    let spec = ListenSpec::new(address.parse().unwrap());
    let first = socket::listen(&spec, 0).unwrap();
    let port = socket::port(&first).unwrap();
    let mut list = vec![first];
    while list.len() < count {
        list.push(socket::join(&spec, &list[0]).unwrap());
    }
    (list, port)
}

fn seats(places: &[u32]) -> Vec<Seat> {
    places
        .iter()
        .map(|place| Seat {
            slot: *place,
            place: *place,
        })
        .collect()
}

/// How many of the connections each got.
fn queues(list: &[OwnedFd]) -> Vec<u32> {
    list.iter().map(|one| socket::queued(one).unwrap()).collect()
}

/// Connects from an address of the loopback network.
fn connect_from(source: [u8; 4], port: u16) -> TcpStream {
    use rustix::net::{AddressFamily, SocketType};
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddr::new(Ipv4Addr::from(source).into(), 0)).unwrap();
    rustix::net::connect(&socket, &SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)).unwrap();
    TcpStream::from(socket)
}

fn connect(count: usize, port: u16) -> Vec<TcpStream> {
    (0..count)
        .map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap())
        .collect()
}

#[test]
fn places_that_are_left_out_get_nothing() {
    for balance in [Balance::Even, Balance::Random, Balance::Sticky, Balance::RoundRobin] {
        for places in [&[0, 1, 2, 3, 4][..], &[1, 3], &[4], &[0, 2, 3]] {
            let (list, port) = group("127.0.0.1:0", 5);
            select(&list[3], balance, &seats(places), places.len() == 5, false).unwrap();
            let _open: Vec<TcpStream> = (0..100).map(|n| connect_from([127, 0, 1, n], port)).collect();
            let got = queues(&list);
            assert_eq!(got.iter().sum::<u32>(), 100, "{balance} {places:?} {got:?}");
            for (place, count) in (0_u32..).zip(&got) {
                // A hundred that are spread over at most five leave nobody without.
                assert_eq!(*count > 0, places.contains(&place), "{balance} {places:?} {got:?}");
            }
        }
    }
}

#[test]
fn ipv6_clients_are_told_apart_and_put_together() {
    let spec = ListenSpec::new("[::1]:0".parse().unwrap());
    // Without IPv6 there is nothing to try.
    let Ok(first) = socket::listen(&spec, 0) else { return };
    let port = socket::port(&first).unwrap();
    let list = [socket::join(&spec, &first).unwrap(), first];
    for (balance, both) in [(Balance::Even, true), (Balance::Sticky, false)] {
        select(&list[0], balance, &seats(&[0, 1]), false, false).unwrap();
        let before = queues(&list);
        let _open: Vec<TcpStream> = (0..40).map(|_| TcpStream::connect(("::1", port)).unwrap()).collect();
        let grown = queues(&list)
            .iter()
            .zip(&before)
            .filter(|(now, before)| now > before)
            .count();
        assert_eq!(grown == 2, both, "{balance}");
    }
}

#[test]
fn clients_stay_when_a_slot_comes_or_goes() {
    let (list, port) = group("127.0.0.1:0", 5);
    let mut where_it_was: BTreeMap<u8, usize> = BTreeMap::new();
    let look = |places: &[u32]| {
        select(&list[0], Balance::Sticky, &seats(places), false, false).unwrap();
        let mut found = BTreeMap::new();
        for client in 0..200 {
            let before = queues(&list);
            let _open = connect_from([127, 0, 2, client], port);
            let now = queues(&list);
            let at = (0..5).find(|at| now[*at] > before[*at]).unwrap();
            found.insert(client, at);
        }
        found
    };
    for places in [&[0, 1, 2, 3][..], &[0, 1, 2, 3, 4], &[0, 1, 2, 3], &[0, 2, 3]] {
        let found = look(places);
        for (client, at) in &found {
            let old = where_it_was.get(client).copied().unwrap_or(*at);
            let left = !places.contains(&u32::try_from(old).unwrap());
            assert!(old == *at || left || *at == 4, "{client} moved from {old} to {at}");
        }
        let moved = found
            .iter()
            .filter(|(client, at)| where_it_was.get(client).is_some_and(|old| old != *at))
            .count();
        assert!(moved < 100, "{moved} of 200 moved");
        where_it_was = found;
    }
}

#[test]
fn turns_are_taken_exactly() {
    let (list, port) = group("127.0.0.1:0", 4);
    let live = select(&list[0], Balance::RoundRobin, &seats(&[0, 2, 3]), false, false).unwrap();
    if live.balance != Balance::RoundRobin {
        assert!(live.why.is_some());
        use std::io::Write as _;
        let _untold = writeln!(io::stderr(), "SKIPPED: eBPF is not allowed here");
        return;
    }
    let _open = connect(30, port);
    assert_eq!(queues(&list), [10, 0, 10, 10]);
}

#[test]
fn without_the_right_the_nearest_thing_is_done() {
    for errno in [libc::EPERM, libc::EACCES, libc::ENOSYS] {
        let live = instead(&io::Error::from_raw_os_error(errno));
        assert_eq!(live.balance, Balance::Even);
        assert!(live.why.unwrap().contains("may not load eBPF"));
    }
    let live = instead(&io::Error::from_raw_os_error(libc::ENOMEM));
    assert!(live.why.unwrap().contains("refused"));
}

#[test]
fn what_joins_a_pinned_group_waits() {
    let (mut list, port) = group("127.0.0.1:0", 2);
    pin(&list[0], &seats(&[0, 1])).unwrap();
    let spec = ListenSpec::new(format!("127.0.0.1:{port}").parse().unwrap());
    list.push(socket::join(&spec, &list[0]).unwrap());
    let _open = connect(50, port);
    assert_eq!(queues(&list)[2], 0);
    release(&list[0]).unwrap();
    release(&list[0]).unwrap();
    let _more = connect(50, port);
    assert!(queues(&list)[2] > 0);
}

#[test]
fn the_last_takes_the_place_of_one_that_leaves() {
    let (list, port) = group("127.0.0.1:0", 4);
    socket::unlisten(&list[1]);
    select(&list[0], Balance::Even, &seats(&[1]), false, false).unwrap();
    let _open = connect(10, port);
    assert_eq!(socket::queued(&list[3]), Some(10));
}

#[test]
fn datagrams_of_one_client_stay_together() {
    let (list, port) = group("udp:127.0.0.1:0", 3);
    let live = select(&list[0], Balance::RoundRobin, &seats(&[1, 2]), false, true).unwrap();
    assert_eq!(live.balance, Balance::Even);
    assert!(live.why.is_some());
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..20 {
        client.send_to(b"x", ("127.0.0.1", port)).unwrap();
    }
    let counts: Vec<usize> = list
        .into_iter()
        .map(|one| {
            let one = UdpSocket::from(one);
            std::iter::from_fn(|| one.recv(&mut [0; 4]).ok()).count()
        })
        .collect();
    assert!(counts == [0, 20, 0] || counts == [0, 0, 20], "{counts:?}");
}

#[test]
fn a_socket_alone_is_no_group() {
    let (list, _) = group("127.0.0.1:0", 1);
    assert!(pin(&list[0], &seats(&[0])).is_err());
    assert!(extended::attach(&list[0], &seats(&[0])).is_err());
}

#[test]
fn many_slots_fit() {
    let (list, port) = group("127.0.0.1:0", 2);
    let many: Vec<u32> = (0..1000).map(|at| at * 2).collect();
    for balance in [Balance::Even, Balance::Random, Balance::Sticky, Balance::RoundRobin] {
        select(&list[0], balance, &seats(&many), false, false).unwrap();
        drop(connect(1, port));
    }
}

#[test]
fn a_probe_reaches_the_place_that_it_names() {
    for address in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"] {
        for balance in [Balance::Even, Balance::Random, Balance::Sticky, Balance::RoundRobin] {
            let (list, port) = group(address, 4);
            select(&list[0], balance, &seats(&[0, 1]), false, false).unwrap();
            for place in [3, 2, 1, 0] {
                let source = super::probe_source(place).unwrap();
                let before = queues(&list);
                let _open = connect_from(source.octets(), port);
                let mut expected = before;
                expected[place as usize] += 1;
                assert_eq!(queues(&list), expected, "{address} {balance}");
            }
            // A place that there is not: somebody gets it.
            let _open = connect_from(super::probe_source(9).unwrap().octets(), port);
            assert_eq!(queues(&list).iter().sum::<u32>(), 5);
        }
    }
    assert_eq!(super::probe_source(1 << 16), None);
}
