package trust

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/effiscale/effiscale/knowledge"
)

func TestQuorum(t *testing.T) {
	for n, want := range map[int]int{-1: 1, 0: 1, 1: 1, 2: 2, 3: 2, 4: 3, 5: 4, 6: 4, 7: 5, 10: 7, 100: 67} {
		if got := Quorum(n); got != want {
			t.Errorf("Quorum(%d) is %d, want %d", n, got, want)
		}
	}
}

// TestQuorumsShareAnHonestOwner: the two halves of the promise, for any number.
func TestQuorumsShareAnHonestOwner(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 1000).Draw(t, "n")
		f, q := Tolerated(n), Quorum(n)
		if 2*q-n < f+1 {
			t.Fatalf("two quorums of %d among %d share %d, and %d may lie", q, n, 2*q-n, f)
		}
		if n-f < q {
			t.Fatalf("%d of %d are honest and a quorum is %d", n-f, n, q)
		}
		if 2*(q-1)-n >= f+1 {
			t.Fatalf("%d would be enough of %d", q-1, n)
		}
	})
}

func TestCertified(t *testing.T) {
	in := knowledge.Intent{Service: "web", Term: knowledge.Term{Round: 2, Owner: "a"}, Seq: 1, Host: "h"}
	digest, ids, owners := digestOf(t, "cut", in), []*Identity{}, []knowledge.NodeID{}
	for n := range byte(5) {
		ids = append(ids, identity(t, n))
		if n < 4 {
			owners = append(owners, ids[n].ID())
		}
	}
	vote := func(n int) Vote { return ids[n].Vote(digest) }
	forged := vote(2)
	forged.Sig = ids[4].Vote(digest).Sig
	renamed := vote(4)
	renamed.Voter = owners[2]
	for _, c := range []struct {
		name  string
		votes []Vote
		want  bool
	}{
		{"none", nil, false},
		{"two of four", []Vote{vote(0), vote(1)}, false},
		{"three of four", []Vote{vote(0), vote(1), vote(3)}, true},
		{"all", []Vote{vote(0), vote(1), vote(2), vote(3)}, true},
		{"one says it twice", []Vote{vote(0), vote(1), vote(1)}, false},
		{"one is no owner", []Vote{vote(0), vote(1), vote(4)}, false},
		{"one is forged", []Vote{vote(0), vote(1), forged}, false},
		{"another's key under an owner's name", []Vote{vote(0), vote(1), renamed}, false},
		{"a forged one does no harm", []Vote{forged, vote(0), vote(1), vote(3)}, true},
		{"the first of an owner counts", []Vote{forged, vote(0), vote(1), vote(2)}, false},
		{"one of another intent", []Vote{vote(0), vote(1), ids[2].Vote(digestOf(t, "cut", knowledge.Intent{}))}, false},
		{"one for another purpose", []Vote{vote(0), vote(1), ids[2].Vote(digestOf(t, "growth", in))}, false},
		{"too many to look at", append(make([]Vote, MaxVotes), vote(0), vote(1), vote(2)), false},
	} {
		if got := Certified(digest, c.votes, owners); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	if Certified(digest, []Vote{vote(0)}, nil) {
		t.Error("nobody's service has a certificate")
	}
	if !Certified(digest, []Vote{vote(0)}, []knowledge.NodeID{owners[0], owners[0]}) {
		t.Error("an owner that is listed twice is not two")
	}
}

// TestDigestTellsApart: whichever field differs, also by where one string ends
// and the next begins, the digest does.
func TestDigestTellsApart(t *testing.T) {
	text := rapid.StringMatching(`[ab]{0,2}`)
	number := rapid.Uint64Range(0, 2)
	intent := rapid.Custom(func(t *rapid.T) knowledge.Intent {
		in := knowledge.Intent{
			Service: knowledge.ServiceKey(text.Draw(t, "service")), Host: knowledge.NodeID(text.Draw(t, "host")),
			Term: knowledge.Term{Round: number.Draw(t, "round"), Owner: knowledge.NodeID(text.Draw(t, "owner"))},
			Seq:  number.Draw(t, "seq"),
		}
		for range number.Draw(t, "replicas") {
			in.Envelopes = append(in.Envelopes, knowledge.Assigned{
				ID: knowledge.ContainerID(text.Draw(t, "container")),
				Envelope: knowledge.Envelope{Memory: knowledge.Bytes(number.Draw(t, "memory")),
					MemoryFloor: knowledge.Bytes(number.Draw(t, "floor"))},
			})
		}
		return in
	})
	rapid.Check(t, func(rt *rapid.T) {
		a, b := intent.Draw(rt, "a"), intent.Draw(rt, "b")
		if cmp.Equal(a, b) != (digestOf(t, "cut", a) == digestOf(t, "cut", b)) {
			rt.Fatalf("%+v and %+v", a, b)
		}
	})
}

func digestOf(t *testing.T, domain string, v any) [32]byte {
	t.Helper()
	sum, err := Digest(domain, v)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}
