//! The documentation, followed to the letter: every command of every page, on machines of its own, with TLS.

use std::path::PathBuf;
use std::process::Command;

use archyard_tests::Coordinates;
use archyard_tests::docs::hosts::{Hosts, Spec};
use archyard_tests::docs::pages::{Block, Note, Run, blocks, pages};
use xtask::images::Platform;

/// Pages that are followed, in this order: each begins where the one before it ended.
const FOLLOWED: [&str; 6] = [
    "docs/getting-started.md",
    "docs/operating-a-worker.md",
    "docs/cli.md",
    "docs/smoke-tests.md",
    "docs/outputs.md",
    "docs/retention.md",
];
/// What the pages build for, as they say it.
const PLATFORMS: &str = "linux/amd64,linux/386";
/// Words that a command begins with. A block of another kind holds none, so no command goes unnoticed.
const COMMANDS: [&str; 8] = ["archyard", "cargo", "docker", "skopeo", "scp", "mkdir", "export", "$"];

/// A page cannot grow a command that nobody runs.
#[test]
fn every_command_is_run_or_says_why_it_is_not() {
    let mut run = 0;
    for page in pages() {
        let blocks = blocks(&page);
        for (index, block) in blocks.iter().enumerate() {
            let place = &block.place;
            match (block.language.as_str(), &block.note) {
                ("", _) => panic!("{place}: name the language of this block: sh for commands, else text"),
                ("sh", Some(Note::Run(_))) => {
                    assert!(FOLLOWED.contains(&page.as_str()), "{place}: this page is not followed; add it");
                    assert!(!block.commands().is_empty(), "{place}: no command");
                    run += 1;
                }
                ("sh", Some(Note::Skip(reason))) => {
                    assert!(reason.len() > 10, "{place}: say why it is not run");
                }
                ("sh", _) => panic!("{place}: say on which host it is run, or why it is not"),
                ("text", Some(Note::Shows)) => {
                    let before = index.checked_sub(1).and_then(|before| blocks[before].note.as_ref());
                    assert!(matches!(before, Some(Note::Run(_))), "{place}: no command was run before it");
                }
                (_, Some(_)) => panic!("{place}: only commands are run or skipped, and only text is shown"),
                (_, None) => {
                    let command = |line: &&String| {
                        line.split_whitespace().next().is_some_and(|word| COMMANDS.contains(&word))
                    };
                    let hidden = block.lines.iter().find(command);
                    assert_eq!(hidden, None, "{place}: a command, so the block is sh");
                }
            }
        }
    }
    assert!(run >= 10, "only {run} blocks are run");
}

#[test]
fn the_pages_are_followed_command_by_command() {
    let env = Coordinates::from_env().unwrap();
    let mut reader = Reader::new(&env);
    for page in FOLLOWED {
        let mut printed = String::new();
        for block in blocks(page) {
            match &block.note {
                Some(Note::Run(run)) => printed = reader.types(run, &block),
                Some(Note::Shows) => {
                    let missing = block.missing_in(&printed);
                    assert_eq!(missing, None, "{}: is not in\n{printed}", block.place);
                }
                Some(Note::Skip(_)) | None => {}
            }
        }
    }
}

/// Whoever follows the pages, and the machines that they presuppose.
struct Reader {
    hosts: Hosts,
    platforms: String,
    engine: String,
}

impl Reader {
    fn new(env: &Coordinates) -> Self {
        let engine = env.engines[0].socket.clone();
        let host = |name, engine: Option<PathBuf>| Spec { name, engine };
        let specs = [
            host("farm.example", None),
            host("registry.example", None),
            host("amd-1", Some(engine.clone())),
            host("amd-2", Some(engine.clone())),
            host("laptop", Some(engine)),
        ];
        let mut hosts = Hosts::start(&env.archyard, &specs);
        registries(&mut hosts, &specs);
        project(&mut hosts, env);
        let platforms = env.native.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        Self { hosts, platforms, engine: env.engines[0].address.clone() }
    }

    /// Types a block's commands, one after the other. What they printed.
    fn types(&mut self, run: &Run, block: &Block) -> String {
        let mut printed = String::new();
        for command in block.commands() {
            let command = command.replace(PLATFORMS, &self.platforms);
            if let Some(until) = &run.until {
                self.hosts.leave_running(&run.host, &command, until);
                continue;
            }
            let typed = self.hosts.type_in(&run.host, &command);
            assert_eq!(typed.code, run.exit, "{}: {command}{}", block.place, typed.printed);
            printed.push_str(&typed.printed);
        }
        printed
    }
}

impl Drop for Reader {
    /// What `docker load` left in the Engine that all tests share.
    fn drop(&mut self) {
        let image = ["rmi", "--force", "registry.example/app:2"];
        drop(Command::new("docker").args(["--host", &self.engine]).args(image).output());
    }
}

/// `registry.example` with TLS, whose authority every machine trusts, and one on the laptop's loopback.
fn registries(hosts: &mut Hosts, specs: &[Spec]) {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap().pem();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&authority, key).unwrap();
    let own = rcgen::CertificateParams::new(vec!["registry.example".to_owned()]).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = own.signed_by(&key, &issuer).unwrap().pem();
    for spec in specs {
        hosts.write(spec.name, "../ca.pem", authority.as_bytes());
        let trust = "mkdir -p /etc/ssl/certs && cat ~/../ca.pem >>/etc/ssl/certs/ca-certificates.crt";
        let typed = hosts.type_in(spec.name, trust);
        assert_eq!(typed.code, 0, "{}", typed.printed);
    }
    let secured = "registry.example";
    hosts.write(secured, "cert.pem", certificate.as_bytes());
    hosts.write(secured, "key.pem", key.serialize_pem().as_bytes());
    let home = hosts.home(secured);
    let tls = format!(
        "  tls:\n    certificate: {}\n    key: {}\n",
        home.join("cert.pem").display(),
        home.join("key.pem").display()
    );
    serve(hosts, secured, "0.0.0.0:443", &tls);
    serve(hosts, "laptop", "127.0.0.1:5000", "");
}

/// A registry on a host, ready to be used.
fn serve(hosts: &mut Hosts, host: &str, address: &str, more: &str) {
    let home = hosts.home(host);
    let storage = home.join("../registry");
    let config = format!(
        "version: 0.1\nlog:\n  level: warn\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n{more}",
        storage.display()
    );
    hosts.write(host, "../registry.yml", config.as_bytes());
    hosts.spawn(host, &["docker-registry", "serve", home.join("../registry.yml").to_str().unwrap()]);
    let port = address.rsplit_once(':').unwrap().1;
    let ready = format!("for i in $(seq 100); do (</dev/tcp/127.0.0.1/{port}) && break; sleep 0.1; done");
    assert_eq!(hosts.type_in(host, &ready).code, 0, "{}", hosts.logs());
}

/// The project on the laptop, in `app`. It starts from nothing, so that no page needs a base image from elsewhere.
fn project(hosts: &mut Hosts, env: &Coordinates) {
    let dockerfile = "FROM scratch\nARG TARGETARCH\nCOPY busybox-$TARGETARCH /bin/busybox\n\
                      COPY app /bin/app\nENV PATH=/bin\nRUN [\"/bin/busybox\", \"ln\", \"-s\", \"busybox\", \"/bin/sh\"]\n\
                      RUN app self-check\nCMD [\"app\"]\n";
    let program = "#!/bin/busybox sh\necho \"app 1.0: $*\"\n";
    hosts.write("laptop", "app/Dockerfile", dockerfile.as_bytes());
    hosts.write("laptop", "app/app", program.as_bytes());
    for platform in &env.native {
        let program = env.busybox.iter().find(|busybox| busybox.platform == *platform).unwrap();
        let program = std::fs::read(&program.path).unwrap();
        hosts.write("laptop", &format!("app/busybox-{}", architecture(platform)), &program);
    }
    assert_eq!(hosts.type_in("laptop", "chmod 755 app/app app/busybox-*").code, 0);
}

fn architecture(platform: &Platform) -> String {
    platform.to_string().split('/').nth(1).unwrap().to_owned()
}
