//! `VOLUME`s of images: they begin as with `docker run`, and end with their container.

use std::path::Path;
use std::time::{Duration, Instant};

use archyard_worker::engine::{End, Engine as _, Home, RunError};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{On, run_canceled, run_request, shell};
use crate::fixture::Kind;

on_every_engine! {
    a_volume_begins_with_what_the_image_holds_there,
    a_volume_keeps_its_owner_and_ends_with_the_container,
    a_volume_is_bounded_and_counts_as_memory,
    what_does_not_fit_into_a_volume_is_told,
    what_a_dead_runner_leaves_of_volumes_is_removed,
    a_cancel_at_any_moment_leaves_no_volume,
}

/// Instructions for an image that holds something below each of its volumes but one.
const VOLUMES: &str = "RUN /bin/busybox --install /bin && mkdir -p /data/sub /empty /tmp/cache \
    && echo of the image > /data/sub/f && ln -s sub/f /data/link && chmod 600 /data/sub/f \
    && chown -R 7:8 /data && chmod 750 /data && chown 9:9 /empty && echo kept > /tmp/cache/f\n\
    VOLUME /data/ /data/sub /empty /tmp/cache /missing";

async fn a_volume_begins_with_what_the_image_holds_there(on: Kind) {
    let engine = On(on);
    let image = engine.image(VOLUMES).await;
    let script = "cat /data/link /data/sub/f /tmp/cache/f && ls -A /empty /missing && \
        echo changed > /data/sub/f && cat /data/link && cp /bin/busybox /missing/ && /missing/busybox echo ran";
    for writable in [false, true] {
        // Twice: what one has written the next one does not see.
        for _ in 0..2 {
            let told = engine.run(image, &shell(script), |request| request.writable = writable).await;
            assert_eq!(*told.end(), End::Exited(0), "{:?}", told.ran());
            let said = "of the image\nof the image\nkept\n/empty:\n\n/missing:\nchanged\nran\n";
            assert_eq!(told.ran().tail, said);
        }
    }
    let tmp = engine.image("RUN mkdir -p /tmp && echo here > /tmp/f\nVOLUME /tmp").await;
    let told = engine.run(tmp, &shell("/bin/busybox cat /tmp/f"), |_| {}).await;
    assert_eq!((told.end(), told.ran().tail.as_str()), (&End::Exited(0), "here\n"));
}

async fn a_volume_keeps_its_owner_and_ends_with_the_container(on: Kind) {
    let engine = On(on);
    let image = engine.image(VOLUMES).await;
    let script = "stat -c '%n %u:%g %a' /data /data/sub/f /empty /missing; \
        mount | grep -c ' on /data .*tmpfs.*nosuid,nodev'; mknod /data/n b 8 0";
    let told = engine.run(image, &shell(script), |_| {}).await;
    let said = "/data 7:8 750\n/data/sub/f 7:8 600\n/empty 9:9 755\n/missing 0:0 755\n1\n";
    assert_eq!(told.frames.output(1), said, "{:?}", told.ran());
    assert!(told.frames.output(2).contains("Operation not permitted"), "{:?}", told.ran());
}

async fn a_volume_is_bounded_and_counts_as_memory(on: Kind) {
    let engine = On(on);
    let image = engine.image("RUN /bin/busybox --install /bin\nVOLUME /one /two").await;
    let fill = "dd if=/dev/zero of=/one/f bs=1M count=100; ls -s /one; n=0; \
        while echo > /two/$n; do n=$((n+1)); done; echo $n files";
    for writable in [false, true] {
        let told = engine
            .run(image, &shell(fill), |request| {
                (request.memory_bytes, request.writable) = (32 << 20, writable);
            })
            .await;
        let (out, err) = (told.frames.output(1), told.frames.output(2));
        assert_eq!(err.matches("No space left on device").count(), 2, "{out} {err}");
        assert!(out.contains("8192 f") && out.contains("2047 files"), "{out} {err}");
    }
    let greedy = "dd if=/dev/zero of=/one/f bs=1M count=16 && dd if=/dev/zero of=/two/f bs=1M count=16 && \
        dd if=/dev/zero of=/dev/null bs=60M count=1";
    let told = engine.run(image, &shell(greedy), |request| request.memory_bytes = 64 << 20).await;
    assert_eq!(*told.end(), End::OutOfMemory, "{:?}", told.ran());
}

async fn what_does_not_fit_into_a_volume_is_told(on: Kind) {
    let engine = On(on);
    let image = engine
        .image("RUN mkdir /data && /bin/busybox dd if=/dev/zero of=/data/f bs=1M count=20\nVOLUME /data")
        .await;
    let words = shell("/bin/busybox ls -s /data");
    let small = engine.run(image, &words, |request| request.memory_bytes = 32 << 20).await;
    assert_eq!(*small.end(), End::VolumeFull(16 << 20), "{:?}", small.ran());
    let large = engine.run(image, &words, |request| request.memory_bytes = 64 << 20).await;
    assert_eq!(*large.end(), End::Exited(0), "{:?}", large.ran());
    assert!(large.ran().tail.contains("20480 f"), "{:?}", large.ran());

    let files = "RUN mkdir /data && cd /data && n=0 && while [ $n -lt 3000 ]; do : > $n; n=$((n+1)); done\nVOLUME /data";
    let many = engine.image(files).await;
    let small = engine.run(many, &words, |request| request.memory_bytes = 16 << 20).await;
    assert_eq!(*small.end(), End::VolumeFull(8 << 20), "{:?}", small.ran());

    let file = engine.image("RUN echo > /data\nVOLUME /data").await;
    let told = engine.run(file, &shell("true"), |_| {}).await;
    let End::NotStarted(reason) = told.end() else { panic!("{:?}", told.ran()) };
    assert!(reason.contains("not a directory"), "{reason}");
}

async fn what_a_dead_runner_leaves_of_volumes_is_removed(on: Kind) {
    let engine = On(on);
    let image = engine.image(VOLUMES).await;
    let home = tempfile::tempdir().unwrap();
    let mine = Home::new("worker-1", home.path());
    // At any moment: while only the volumes are held, and while the program runs.
    for delay_ms in [0, 100, 300, 600, 1_500] {
        let before = engine.left(home.path()).await;
        let (client, request) = (engine.engine(), run_request(image, &shell("sleep 600"), home.path()));
        let (progress, _frames) = mpsc::channel(64);
        let mut runs = tokio::task::JoinSet::new();
        runs.spawn(async move { client.run(request, progress, CancellationToken::new()).await });
        while engine.left(home.path()).await == before {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        runs.shutdown().await;
        let strangers = Home::new("worker-1", Path::new("/nonexistent"));
        assert_eq!(engine.engine().remove_leftovers(&strangers, |_| false).await.unwrap(), 0);
        assert_eq!(engine.engine().remove_leftovers(&mine, |_| true).await.unwrap(), 0, "it lives");
        let died = Instant::now();
        assert!(engine.engine().remove_leftovers(&mine, |_| false).await.unwrap() > 0);
        assert!(died.elapsed() < Duration::from_secs(15), "{:?} after {delay_ms} ms", died.elapsed());
        assert_eq!(engine.left(home.path()).await, before, "died after {delay_ms} ms");
    }
}

async fn a_cancel_at_any_moment_leaves_no_volume(on: Kind) {
    let engine = On(on);
    let image = engine.image(VOLUMES).await;
    let (home, client) = (tempfile::tempdir().unwrap(), engine.engine());
    let before = engine.left(home.path()).await;
    for delay_ms in (0..1_200).step_by(120) {
        let request = run_request(image, &shell("sleep 600"), home.path());
        let told = run_canceled(&client, request, Duration::from_millis(delay_ms)).await;
        assert!(matches!(told.result, Err(RunError::Canceled)), "{delay_ms}");
        assert_eq!(engine.left(home.path()).await, before, "canceled after {delay_ms} ms");
    }
}
