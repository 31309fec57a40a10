#![no_std]
#![no_main]
//! Platform check: network up, echo.

use embassy_executor::Spawner;
use embassy_net::{Config, StackResources, tcp::TcpSocket, udp::{PacketMetadata, UdpSocket}};
use static_cell::StaticCell;

mod clock;
mod eth;
mod idle;
mod irq;
mod log;
mod reg;
mod sensor;
mod time;

use log::log;

#[cortex_m_rt::entry]
fn main() -> ! {
    clock::start();
    let core = cortex_m::Peripherals::take().expect("main runs once");
    time::start(core.SYST);
    idle::run(start)
}

fn start(spawner: Spawner) {
    let ethernet = eth::Ethernet::start();
    let mac = ethernet.mac();
    log!(info, "up, mac {=[u8; 6]:x}", mac);
    static RES: StaticCell<StackResources<6>> = StaticCell::new();
    let (stack, runner) = embassy_net::new(ethernet, Config::dhcpv4(Default::default()), RES.init(StackResources::new()), 1);
    spawner.spawn(net(runner).expect("once"));
    spawner.spawn(echo(stack).expect("once"));
}

#[embassy_executor::task]
async fn net(mut runner: embassy_net::Runner<'static, eth::Ethernet>) -> ! {
    runner.run().await
}

#[embassy_executor::task]
async fn echo(stack: embassy_net::Stack<'static>) {
    stack.wait_config_up().await;
    if let Some(c) = stack.config_v4() {
        log!(info, "address {=[u8; 4]}", c.address.address().octets());
    }
    let (mut a, mut b) = ([0; 600], [0; 600]);
    let (mut am, mut bm) = ([PacketMetadata::EMPTY; 2], [PacketMetadata::EMPTY; 2]);
    let mut udp = UdpSocket::new(stack, &mut am, &mut a, &mut bm, &mut b);
    udp.bind(8301).expect("free");
    let (mut c, mut d) = ([0; 600], [0; 600]);
    let mut tcp = TcpSocket::new(stack, &mut c, &mut d);
    let sensor = sensor::Sensor::start(215);
    let u = async {
        let mut buf = [0; 600];
        loop {
            if let Ok((n, from)) = udp.recv_from(&mut buf).await {
                log!(info, "udp {=usize} sensor {=i32}", n, sensor.read());
                let _ = udp.send_to(&buf[..n], from).await;
            }
        }
    };
    let t = async {
        let mut buf = [0; 600];
        loop {
            if tcp.accept(8301).await.is_ok() {
                while let Ok(n @ 1..) = tcp.read(&mut buf).await {
                    let _ = tcp.write(&buf[..n]).await;
                }
                tcp.close();
                let _ = tcp.flush().await;
                tcp.abort();
                let _ = tcp.flush().await;
            }
        }
    };
    embassy_futures::join::join(u, t).await;
}
