use std::fs;

use tempfile::TempDir;

use super::*;

/// An agent's socket in a new directory, once it answers.
async fn start() -> (TempDir, PathBuf, Arc<Health>) {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("health.sock");
    let health = Arc::new(Health::default());
    let report = health.readiness.side_part("probes");
    tokio::spawn(answer(path.clone(), health.clone(), report));
    while !path.exists() {
        tokio::task::yield_now().await;
    }
    (directory, path, health)
}

async fn asked(question: Question, path: &Path) -> (bool, String) {
    exchange(question, path).await.unwrap()
}

#[tokio::test]
async fn each_question_is_answered_as_the_page_of_its_matter() {
    let (_directory, path, health) = start().await;
    let live = (true, "ok\n".to_owned());
    assert_eq!(asked(Question::Live, &path).await, live);
    assert_eq!(asked(Question::Started, &path).await, live);
    let part = health.readiness.part("policy", "not looked at yet");
    let (ready, text) = asked(Question::Ready, &path).await;
    assert!(!ready && text.contains("wait  policy   not looked at yet\n"), "{text}");
    part.set(vec![Line::Well("in force".into())]);
    let (ready, text) = asked(Question::Ready, &path).await;
    assert!(ready && text.contains("ok    policy   in force\n"), "{text}");
}

#[tokio::test]
async fn a_question_that_is_none_is_answered_with_no() {
    let (_directory, path, _health) = start().await;
    for question in ["alive\n", "live", "\n", ""] {
        let mut stream = UnixStream::connect(&path).await.unwrap();
        stream.write_all(question.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let expected = if question == "live" { "yes\n" } else { "no\n" };
        assert!(answer.starts_with(expected), "{question:?}: {answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_was_removed_is_made_anew() {
    let (_directory, path, _health) = start().await;
    fs::remove_file(&path).unwrap();
    while !path.exists() {
        sleep(RETRY).await;
    }
    assert!(asked(Question::Live, &path).await.0);
}

#[tokio::test(start_paused = true)]
async fn while_another_process_answers_there_it_is_noted_and_tried_again() {
    let (_directory, path, _health) = start().await;
    let other = Arc::new(Health::default());
    let report = other.readiness.side_part("probes");
    tokio::spawn(answer(path.clone(), other.clone(), report));
    let note = "note  probes   cannot answer on the socket: another process answers on ";
    let noted = async {
        while !other.readiness.report().1.contains(note) {
            sleep(RETRY).await;
        }
    };
    timeout(3 * RETRY, noted).await.expect(note);
    assert!(other.readiness.report().0, "it is ready all the same");
}
