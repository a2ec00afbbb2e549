//! `register ETCD PREFIX`: writes a key for each address on standard input, a hundred with each transaction; says how many
//! seconds that took. By gRPC, as services do: etcd's JSON interface takes nearly three times the processor time, on cores that
//! others are being measured on.

use std::{
    env,
    io::{Write as _, read_to_string, stdin, stdout},
    time::Instant,
};

use ceiling::{Ended, run};
use etcd_client::{Client, Txn, TxnOp};

fn main() -> Ended {
    let (Some(etcd), Some(prefix)) = (env::args().nth(1), env::args().nth(2)) else {
        return Err("register ETCD PREFIX".into());
    };
    let addresses: Vec<_> = read_to_string(stdin())?.lines().map(str::to_owned).collect();
    run(async move {
        let mut client = Client::connect([etcd], None).await?;
        let began = Instant::now();
        for some in addresses.chunks(100) {
            let puts = some.iter().map(|address| TxnOp::put(format!("{prefix}{address}"), address.as_str(), None));
            client.txn(Txn::new().and_then(puts.collect::<Vec<_>>())).await?;
        }
        writeln!(stdout(), "{}", began.elapsed().as_secs_f64())?;
        Ok(())
    })
}
