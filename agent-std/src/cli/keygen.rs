//! `keygen`: a fresh gossip key.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::ArgMatches;

use super::{
    Kind, Spec,
    context::{Context, Outcome},
};

pub(super) const SPEC: Spec = Spec {
    path: "keygen",
    synopsis: "Generates a new encryption key",
    usage: "",
    about: "Prints 32 random octets in base64, ready to be the agent's encrypt setting.",
    kind: Kind::Leaf { flags: |command| command, run },
    ours: false,
};

fn run(context: &mut Context<'_>, _: &ArgMatches) -> Outcome {
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|error| format!("Error reading random data: {error}"))?;
    context.say(&STANDARD.encode(key));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::consul;

    #[test]
    fn a_key_is_44_characters_and_new_each_time() {
        let (one, two) = (consul(&["keygen", "ignored"]), consul(&["keygen"]));
        assert_eq!((one.code, one.out.len()), (0, 45));
        assert_eq!(STANDARD.decode(one.out.trim()).unwrap().len(), 32);
        assert_ne!(one.out, two.out);
    }
}
