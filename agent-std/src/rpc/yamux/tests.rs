use tokio::io::{DuplexStream, duplex};

use super::*;

fn pair() -> (Session, Session, mpsc::UnboundedReceiver<Stream>) {
    let (a, b) = duplex(1 << 16);
    let (client, _) = Session::start(a, Side::Client);
    let (server, accept) = Session::start(b, Side::Server);
    (client, server, accept)
}

async fn frame(peer: &mut DuplexStream) -> (Header, Vec<u8>) {
    let mut head = [0; Header::LEN];
    peer.read_exact(&mut head).await.unwrap();
    let header = Header::parse(&head).unwrap();
    let mut body = vec![0; if header.kind == Kind::Data { header.length as usize } else { 0 }];
    peer.read_exact(&mut body).await.unwrap();
    (header, body)
}

#[tokio::test]
async fn streams_carry_more_than_their_window_both_ways() {
    let (client, _server, mut accept) = pair();
    let echo = tokio::spawn(async move {
        while let Some(mut stream) = accept.recv().await {
            tokio::spawn(async move {
                let mut all = Vec::new();
                stream.read_to_end(&mut all).await.unwrap();
                stream.write_all(&all).await.unwrap();
                stream.shutdown().await.unwrap();
            });
        }
    });
    let calls = (0..20u8).map(|n| {
        let mut stream = client.open().unwrap();
        tokio::spawn(async move {
            let sent = vec![n; 700_000];
            stream.write_all(&sent).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut back = Vec::new();
            stream.read_to_end(&mut back).await.unwrap();
            assert!(back == sent);
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
    assert_eq!(client.shared.slots().by_id.len(), 0, "streams that both sides finished are gone");
    echo.abort();
}

#[tokio::test]
async fn the_bytes_are_the_references() {
    let (ours, mut peer) = duplex(1 << 16);
    let (session, mut accept) = Session::start(ours, Side::Server);
    // SYN on a window update, then data; SYN on data.
    peer.write_all(&[0, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0]).await.unwrap();
    peer.write_all(&[0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 2, b'h', b'i']).await.unwrap();
    for id in [1, 3] {
        let (header, _) = frame(&mut peer).await;
        assert_eq!(header, Header { kind: Kind::Window, flags: ACK, stream: id, length: 0 });
    }
    let first = accept.recv().await.unwrap();
    let mut second = accept.recv().await.unwrap();
    let mut two = [0; 2];
    second.read_exact(&mut two).await.unwrap();
    assert_eq!(&two, b"hi");
    // A ping is answered with its value.
    peer.write_all(&[0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9]).await.unwrap();
    assert_eq!(frame(&mut peer).await.0, Header { kind: Kind::Ping, flags: ACK, stream: 0, length: 9 });
    // Data before FIN is read in full; FIN travels on an empty window update.
    drop(first);
    assert_eq!(frame(&mut peer).await.0, Header { kind: Kind::Window, flags: FIN, stream: 1, length: 0 });
    // More than the window ends the session.
    peer.write_all(&[0, 0, 0, 0, 0, 0, 0, 3, 0, 4, 0, 1]).await.unwrap();
    assert_eq!(frame(&mut peer).await.0, Header { kind: Kind::GoAway, flags: 0, stream: 0, length: 1 });
    assert!(second.read_exact(&mut two).await.is_err());
    assert!(session.is_ended() && session.open().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_noticed() {
    let (ours, mut peer) = duplex(1 << 16);
    let (session, _accept) = Session::start(ours, Side::Client);
    let mut stream = session.open().unwrap();
    let began = tokio::time::Instant::now();
    assert_eq!(frame(&mut peer).await.0.flags, SYN);
    assert_eq!(frame(&mut peer).await.0, Header { kind: Kind::Ping, flags: SYN, stream: 0, length: 0 });
    assert!(stream.read_u8().await.is_err());
    assert_eq!(began.elapsed().as_secs(), 40);
}

#[tokio::test]
async fn a_reset_and_strange_frames_do_no_harm() {
    let (ours, mut peer) = duplex(1 << 16);
    let (session, _accept) = Session::start(ours, Side::Client);
    let mut stream = session.open().unwrap();
    // For a stream that is not there: ignored, body and all. Then a reset of ours.
    peer.write_all(&[0, 0, 0, 0, 0, 0, 0, 99, 0, 0, 0, 1, 7]).await.unwrap();
    peer.write_all(&[0, 1, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0]).await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    peer.write_all(&[9; 12]).await.unwrap();
    let mut rest = Vec::new();
    peer.read_to_end(&mut rest).await.unwrap();
    assert!(rest.ends_with(&[0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]), "{rest:?}");
}
