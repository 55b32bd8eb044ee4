package member

import (
	"bytes"
	"fmt"
	"maps"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// Cause is why something from the network was refused.
type Cause string

// The causes.
const (
	CauseKey        Cause = "key"        // encrypted with a key that this node has not
	CausePlaintext  Cause = "plaintext"  // not encrypted, and it must be
	CauseEncrypted  Cause = "encrypted"  // encrypted, and this node has no key
	CauseCluster    Cause = "cluster"    // another cluster's name
	CauseGarbage    Cause = "garbage"    // not gossip, or incomplete
	CauseCompressed Cause = "compressed" // no node of ours compresses; bombs do
	CauseMeta       Cause = "metadata"   // of a member, unreadable
	CauseID         Cause = "id"         // of a member, not 32 hexadecimal digits
	CauseAddress    Cause = "address"    // a member with an address that cannot be reached
	CauseNetwork    Cause = "network"    // outside of the networks allowed
	CauseCrowd      Cause = "crowd"      // too many members, or streams at once
)

// sentence is the log message for a cause.
func (c Cause) sentence(at, detail string) string {
	switch c {
	case CauseKey:
		return fmt.Sprintf("refused a node at %s: it has another cluster key", at)
	case CausePlaintext:
		return fmt.Sprintf("refused a node at %s: it has no cluster key", at)
	case CauseEncrypted:
		return fmt.Sprintf("refused a node at %s: it has a cluster key and this node has none", at)
	case CauseCluster:
		return fmt.Sprintf("refused a node at %s: it is of another cluster, %s", at, detail)
	case CauseCompressed:
		return fmt.Sprintf("refused compressed gossip from %s", at)
	case CauseMeta, CauseID:
		return fmt.Sprintf("refused the node %s: invalid metadata, %s", at, detail)
	case CauseAddress:
		return fmt.Sprintf("refused the node %s: its address %s cannot be reached", at, detail)
	case CauseNetwork:
		return fmt.Sprintf("refused a node at %s: it is in no allowed network", at)
	case CauseCrowd:
		return fmt.Sprintf("refused data from %s: overloaded, %s", at, detail)
	default:
		return fmt.Sprintf("refused data from %s: not gossip, or incomplete", at)
	}
}

// Counts are what happened since Open.
type Counts struct {
	Refused                            map[Cause]uint64
	RefusedAt                          map[Cause]time.Time // the newest
	RefusedOf                          map[Cause]string    // address or id of the newest
	Joins, Leaves, Failures, Conflicts uint64
}

const (
	// logEvery is how long the same message is not logged again.
	logEvery = time.Minute
	// maxLogged bounds the messages of a minute: unknown senders can have many addresses.
	maxLogged = 64
)

// logged is a line that was written, and how often it was suppressed since.
type logged struct {
	at    time.Time
	times int
}

// refusals counts what was refused and logs it, once a minute for each cause and
// address. It is memberlist's log as well: some facts are there only.
type refusals struct {
	log zerolog.Logger
	now func() time.Time
	// suspect is called for a member that did not answer this node.
	suspect func(id string)
	// called is the name of a member for people.
	called func(id string) string

	mu     sync.Mutex // guards all below; nothing is called with it but the logger
	counts map[Cause]uint64
	newest map[Cause]time.Time
	of     map[Cause]string // sender of the newest
	lines  map[string]logged
}

func newRefusals(log zerolog.Logger, now func() time.Time) *refusals {
	return &refusals{
		log: log, now: now, suspect: func(string) {}, called: func(id string) string { return id },
		counts: map[Cause]uint64{}, newest: map[Cause]time.Time{}, of: map[Cause]string{}, lines: map[string]logged{},
	}
}

// note counts a refusal; at is the address or the id of the sender.
func (r *refusals) note(c Cause, at, detail string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts[c]++
	r.newest[c], r.of[c] = r.now(), at
	if times, ok := r.may(string(c) + " " + at); ok {
		level := zerolog.WarnLevel
		if c == CauseGarbage {
			level = zerolog.InfoLevel
		}
		r.log.WithLevel(level).Str("cause", string(c)).Int("times", times).Msg(c.sentence(at, detail))
	}
}

// logOnce writes a line unless the same key had one in the last minute.
func (r *refusals) logOnce(level zerolog.Level, key, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if times, ok := r.may(key); ok {
		r.log.WithLevel(level).Int("times", times).Msg(text)
	}
}

// may reports whether a line is due, and how many it stands for. mu is held.
func (r *refusals) may(key string) (int, bool) {
	now := r.now()
	s, ok := r.lines[key]
	if ok && now.Sub(s.at) < logEvery {
		s.times++
		r.lines[key] = s
		return 0, false
	}
	if !ok && len(r.lines) >= maxLogged {
		maps.DeleteFunc(r.lines, func(_ string, s logged) bool { return now.Sub(s.at) >= logEvery })
		if len(r.lines) >= maxLogged {
			return 0, false
		}
	}
	r.lines[key] = logged{at: now}
	return s.times + 1, true
}

// snapshot is what was refused, when last, and the senders.
func (r *refusals) snapshot() (map[Cause]uint64, map[Cause]time.Time, map[Cause]string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.counts), maps.Clone(r.newest), maps.Clone(r.of)
}

// lines maps parts of memberlist's log lines to causes, the first that fits.
func lines() []struct {
	part  string
	cause Cause
} {
	return []struct {
		part  string
		cause Cause
	}{
		{otherKey, CauseKey},
		{"remote state is not encrypted", CausePlaintext},
		{"encryption is not configured", CauseEncrypted},
		{"unacceptable label", CauseCluster},
		{"Decrypt packet failed", CauseGarbage},
		{"failed to receive", CauseGarbage},
		{"Failed to receive", CauseGarbage},
		{"Failed to decode", CauseGarbage},
		{"Failed to decompress", CauseGarbage},
		{"Failed to read remote state", CauseGarbage},
		{"invalid msgType", CauseGarbage},
		{"not supported", CauseGarbage},
		{"invalid checksum", CauseGarbage},
		{"truncated", CauseGarbage},
		{"missing message type", CauseGarbage},
		{"label header", CauseGarbage},
	}
}

// Write takes one line of memberlist's log. It never fails.
func (r *refusals) Write(b []byte) (int, error) {
	line := string(bytes.TrimSpace(b[:min(len(b), 1024)]))
	if rest, ok := strings.CutPrefix(line, "[INFO] memberlist: Suspect "); ok {
		id, _, _ := strings.Cut(rest, " ")
		r.suspect(id)
	}
	text := line
	if _, rest, ok := strings.Cut(line, "] memberlist: "); ok {
		text = rest
	}
	if rest, ok := strings.CutPrefix(text, "Was able to connect to "); ok {
		id, _, _ := strings.Cut(rest, " ")
		r.logOnce(zerolog.WarnLevel, "udp "+id,
			"the node "+r.called(id)+" answers by TCP and not by UDP: packets are lost, or its port is blocked")
		return len(b), nil
	}
	if _, from, ok := strings.Cut(text, "from="); ok && !strings.HasPrefix(line, "[DEBUG]") {
		at := hostOf(strings.TrimSpace(from))
		for _, l := range lines() {
			if strings.Contains(text, l.part) {
				cause, detail := l.cause, ""
				if cause == CauseCluster {
					cause, detail = clusterOf(text)
				}
				r.note(cause, at, detail)
				return len(b), nil
			}
		}
	}
	r.log.Debug().Msg(text)
	return len(b), nil
}

// clusterOf is the label in memberlist's line; without one it is no gossip of ours.
func clusterOf(text string) (Cause, string) {
	_, rest, _ := strings.Cut(text, `label "`)
	label, _, _ := strings.Cut(rest, `"`)
	if label == "" {
		return CauseGarbage, ""
	}
	return CauseCluster, fmt.Sprintf("%.64q", label)
}

// hostOf is an address without its port, which unknown senders change.
func hostOf(addr string) string {
	if host, _, err := net.SplitHostPort(addr); err == nil {
		return host
	}
	return addr
}
