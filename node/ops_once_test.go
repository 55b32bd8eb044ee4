package node

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/effiscale/effiscale/docker/dockertest"
	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/store"
	"github.com/effiscale/effiscale/node/api"
)

// TestRow130SameAnswer: row 130 over HTTP, the same key gets the same bytes, with another body or
// path 409, and nothing is done twice.
func TestRow130SameAnswer(t *testing.T) {
	t.Parallel()
	r := newRig(t, dockertest.Options{})
	id := r.e.Run(dockertest.Spec{Name: "web", Labels: opted,
		Limits: knowledge.Limits{CPU: knowledge.OneCPU / 2, Memory: 256 * knowledge.MiB}})
	r.managed(id)
	s, c := r.serve(api.Options{Execution: "127.0.0.1:0"})
	ask := func(path, key, body string) (int, string) {
		t.Helper()
		at := "http://" + s.Addr(api.Execution) + path
		req, _ := http.NewRequestWithContext(t.Context(), "POST", at, strings.NewReader(body))
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Idempotency-Key", key)
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b)
	}
	const vertical, horizontal = "/scale/vertical", "/scale/horizontal"
	const up = `{"container_id":"web","direction":"up","resources":{"memory":402653184}}`
	const out = `{"container_id":"web","direction":"out","replicas":1}`
	status, first := ask(vertical, "k1", up)
	if status != 200 || !strings.Contains(first, "402653184") {
		t.Fatalf("%d %s", status, first)
	}
	_, refused := ask(horizontal, "k2", out)
	for range 2 {
		if status, got := ask(vertical, "k1", up); status != 200 || got != first {
			t.Errorf("%d\n%s\nfirst\n%s", status, got, first)
		}
		if status, got := ask(horizontal, "k2", out); status != 409 || got != refused {
			t.Errorf("%d\n%s\nfirst\n%s", status, got, refused)
		}
		for path, body := range map[string]string{
			vertical: strings.Replace(up, "402653184", "503316480", 1), horizontal: out} {
			if status, got := ask(path, "k1", body); status != 409 || !strings.Contains(got, "another request") {
				t.Errorf("%s: %d %s", path, status, got)
			}
		}
		if status, got := ask(vertical, "k2", up); status != 409 || !strings.Contains(got, "another request") {
			t.Errorf("%d %s", status, got)
		}
		time.Sleep(50 * time.Millisecond)
	}
	// A daemon that was killed in between: one of the two changes is on record.
	began := knowledge.Action{Kind: knowledge.ActionResize, ID: id, Name: "web", Actor: knowledge.ActorUser,
		At: time.Now(), Key: "k3", Resize: knowledge.Resize{Resource: knowledge.ResourceCPU, Verb: knowledge.Grow, To: 6e8}}
	var err error
	if began.Seq, err = r.n.store.Journal.Begin(began); err != nil {
		t.Fatal(err)
	}
	if err := r.n.store.Journal.End(knowledge.Outcome{Seq: began.Seq, Result: knowledge.ResultApplied,
		At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	const both = `{"container_id":"web","direction":"up","resources":{"cpu":0.6,"memory":503316480}}`
	status, rest := ask(vertical, "k3", both)
	if status != 200 || strings.Count(rest, `"resource":`) != 2 || !strings.Contains(rest, `"memory":503316480`) {
		t.Errorf("the other half: %d %s", status, rest)
	}
	records, err := r.n.store.Journal.Records(store.Filter{Container: id, Limit: 10})
	asked := 0
	for _, v := range records {
		if v.Action.Actor == knowledge.ActorUser {
			asked++
		}
	}
	if err != nil || asked != 3 {
		t.Errorf("%d changes on record: %+v %v", asked, records, err)
	}
}
