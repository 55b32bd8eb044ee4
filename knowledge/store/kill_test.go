package store

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

const childEnv = "EFFISCALE_STORE_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		if err := child(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// child writes until it is killed, and says on standard output what was
// acknowledged: B and E with an action's number, C with a commit's.
func child(dir string) error {
	s, opened, err := Open(Options{Dir: dir})
	if err != nil {
		return err
	}
	if opened.SetAside != "" || opened.Why != "" {
		return fmt.Errorf("after a kill: %+v", opened)
	}
	for _, r := range s.Journal.OpenActions() {
		if err := s.Journal.End(knowledge.Outcome{Seq: r.Action.Seq, Result: knowledge.ResultSuperseded}); err != nil {
			return err
		}
	}
	commits := lastCommit(s)
	for i := 0; ; i++ {
		seq, err := s.Journal.Begin(action(i % 1000))
		if err != nil {
			return err
		}
		fmt.Printf("B %d\n", seq)
		if i%3 != 0 {
			if err := s.Journal.End(knowledge.Outcome{Seq: seq, Result: knowledge.ResultApplied,
				Kernel: int64(seq)}); err != nil {
				return err
			}
			fmt.Printf("E %d\n", seq)
		}
		if i%4 == 0 {
			commits++
			b := Batch{Profiles: map[knowledge.ServiceKey][]byte{}, Images: map[ImageCopy][]byte{},
				Seals: map[ImageCopy][]byte{}}
			for k := range 3 { // copies of other hosts, with their seals
				at := ImageCopy{"image", knowledge.NodeID(fmt.Sprint("n", k))}
				b.Images[at] = bytes.Repeat(binary.BigEndian.AppendUint64(nil, commits), 50)
				b.Seals[at] = binary.BigEndian.AppendUint64(nil, commits)
			}
			for k := range 20 {
				b.Profiles[knowledge.ServiceKey(fmt.Sprint("s", k))] = bytes.Repeat(binary.BigEndian.AppendUint64(nil, commits), 50)
			}
			if err := s.Learned.Commit(b); err != nil {
				return err
			}
			fmt.Printf("C %d\n", commits)
		}
	}
}

// lastCommit is the number of the last commit; all 20 profiles must be of it, and
// the copies of images with their seals.
func lastCommit(s *Store) uint64 {
	ps, err := s.Learned.Profiles()
	if err != nil || len(ps) == 0 {
		return 0
	}
	n := binary.BigEndian.Uint64(ps["s0"])
	for _, v := range ps {
		if !bytes.Equal(v, bytes.Repeat(binary.BigEndian.AppendUint64(nil, n), 50)) {
			return 0
		}
	}
	images, err1 := s.Learned.Images()
	seals, err2 := s.Learned.Seals()
	if err1 != nil || err2 != nil || len(images) != 3 || len(seals) != 3 {
		return 0
	}
	for at, v := range images {
		if seal := seals[at]; binary.BigEndian.Uint64(v) != n || len(seal) != 8 || binary.BigEndian.Uint64(seal) != n {
			return 0
		}
	}
	return n
}

// Row 52: kill -9 at random moments, 60 times on the same file. What was
// acknowledged is there; no transaction is there by half.
func TestRow52KilledAtRandomMoments(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	rnd := rand.New(rand.NewPCG(52, 9))
	rounds, begun, ended := 60, 0, 0
	for round := range rounds {
		acked := runAndKill(t, exe, dir, 1+rnd.IntN(60), time.Duration(rnd.IntN(3000))*time.Microsecond)
		s, opened, err := Open(quiet(t, dir))
		if err != nil || opened.SetAside != "" || opened.Why != "" {
			t.Fatalf("round %d: %+v, %v", round, opened, err)
		}
		records, err := s.Journal.Records(Filter{Limit: maxJournal})
		if err != nil || s.file.badCount != 0 {
			t.Fatalf("round %d: %d bad, %v", round, s.file.badCount, err)
		}
		bySeq := map[uint64]knowledge.Record{}
		for _, r := range records {
			bySeq[r.Action.Seq] = r
		}
		for _, a := range acked {
			r, ok := bySeq[a.n]
			switch {
			case a.what == "C" && lastCommit(s) < a.n:
				t.Fatalf("round %d: commit %d was acknowledged, the file has %d", round, a.n, lastCommit(s))
			case a.what == "B" && !ok:
				t.Fatalf("round %d: action %d was acknowledged and is lost", round, a.n)
			case a.what == "E" && (r.Outcome.Result != knowledge.ResultApplied || r.Outcome.Kernel != int64(a.n)):
				t.Fatalf("round %d: the end of action %d was acknowledged, the file has %+v", round, a.n, r.Outcome)
			}
			switch a.what {
			case "B":
				begun++
			case "E":
				ended++
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d kills, %d begun and %d ended actions acknowledged, none lost", rounds, begun, ended)
	if begun < rounds {
		t.Fatalf("only %d actions in %d rounds: the test does not test", begun, rounds)
	}
}

type ack struct {
	what string
	n    uint64
}

// runAndKill runs a child, kills it a moment after so many acknowledgements, and
// returns all that it gave.
func runAndKill(t *testing.T, exe, dir string, after int, moment time.Duration) []ack {
	t.Helper()
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer stop.Stop()
	var acked []ack
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if err != nil { // a line cut short was not acknowledged
			if err != io.EOF {
				t.Fatal(err)
			}
			break
		}
		var a ack
		if _, err := fmt.Sscanf(line, "%s %d", &a.what, &a.n); err != nil {
			t.Fatalf("child said %q", line)
		}
		acked = append(acked, a)
		if len(acked) == after {
			time.AfterFunc(moment, func() { _ = cmd.Process.Kill() })
		}
	}
	_ = cmd.Wait() // it was killed
	if stderr.Len() > 0 {
		t.Fatalf("child: %s", stderr.String())
	}
	return acked
}
