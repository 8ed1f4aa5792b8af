//! Many requests share a batch of the embedding model, and get what they would get alone.

use std::path::Path;

use farthing_backend::embed;

#[test]
fn requests_that_wait_together_are_embedded_together() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.farthing/models/all-MiniLM-L6-v2");
    let handle = embed::load("minilm", &folder).expect("the pinned model");
    let texts: Vec<String> = (0..24)
        .map(|n| format!("How do I reset password {n}?"))
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut alone = Vec::new();
        for text in &texts {
            alone.push(handle.embed(vec![text.clone()]).await.expect("it embeds"));
        }
        let mut together = tokio::task::JoinSet::new();
        for (index, text) in texts.iter().cloned().enumerate() {
            let handle = handle.clone();
            together.spawn(async move { (index, handle.embed(vec![text]).await) });
        }
        while let Some(joined) = together.join_next().await {
            let (index, embedded) = joined.expect("no panic");
            let embedded = embedded.expect("it embeds");
            assert_eq!(embedded.tokens, alone[index].tokens);
            let pairs = embedded.vectors[0].iter().zip(&alone[index].vectors[0]);
            let apart = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(apart < 1e-5, "{apart}");
        }
    });
    assert!(handle.is_known("address") && !handle.is_known("adress"));
}
