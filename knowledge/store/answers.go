package store

import (
	"encoding/json"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"
)

const (
	maxAnswer = 32 << 10 // bytes of one
	// maxWaiting bounds the answers that wait for the disk.
	maxWaiting = 1000
)

// Answers are the requests that clients sent with a key, and their answers, for a day. The
// oldest go first beyond a share of Options.MaxSize: 4,096 of them in 64 MiB.
type Answers struct {
	s    *Store
	puts int // since the oldest were dropped
}

// Answer is a request and its answer.
type Answer struct {
	Request string          `json:"request"` // tells requests with one key apart
	Done    bool            `json:"done"`    // false: it was begun, and has no answer yet
	Kind    uint8           `json:"kind,omitempty"`
	Detail  string          `json:"detail,omitempty"` // of an error
	Body    json.RawMessage `json:"body,omitempty"`
}

// mostAnswers is how many are kept.
func (o Options) mostAnswers() int { return int(o.MaxSize / 16384) }

// Put records the answer of a key; nil deletes it.
func (a *Answers) Put(key string, v *Answer) error {
	if key == "" || len(key) > maxKey {
		return fmt.Errorf("cannot keep an answer: %w: a key of %d bytes", ErrInvalid, len(key))
	}
	a.s.mu.Lock()
	defer a.s.mu.Unlock()
	c := cell{bucketAnswers, key}
	if v == nil {
		a.s.staged[c] = nil
		return a.s.write(nil)
	}
	b, err := json.Marshal(v)
	if err != nil || len(b) > maxAnswer {
		return fmt.Errorf("cannot keep an answer: %w: %d bytes, allowed are %d (%w)", ErrInvalid, len(b), maxAnswer, err)
	}
	if _, waits := a.s.staged[c]; !waits && a.waiting() >= maxWaiting {
		return fmt.Errorf("cannot keep an answer: %d wait for the disk: %w", maxWaiting, ErrDegraded)
	}
	a.s.staged[c] = append(stamp(a.s.opt.Now()), b...)
	a.puts++
	return a.s.write(a.drop)
}

func (a *Answers) waiting() (n int) {
	for c := range a.s.staged {
		if c.bucket == bucketAnswers {
			n++
		}
	}
	return n
}

// drop deletes the oldest answers between two calls of Prune.
func (a *Answers) drop(tx *bolt.Tx) error {
	most := a.s.opt.mostAnswers()
	if a.puts <= most {
		return nil
	}
	a.puts = 0
	return prune(tx, bucketAnswers, most, func(string, time.Time) bool { return false })
}

// Get is the answer of a key in the last 24 h; false: there is none.
func (a *Answers) Get(key string) (v Answer, known bool, err error) {
	read := func(payload []byte) {
		at, data, ok := unstamp(payload)
		old := a.s.opt.Now().Sub(at) > keyLife
		known = ok && !old && json.Unmarshal(data, &v) == nil
	}
	c := cell{bucketAnswers, key}
	a.s.mu.Lock()
	payload, waits := a.s.staged[c]
	if waits {
		read(payload)
	}
	a.s.mu.Unlock()
	if waits {
		return v, known, nil
	}
	err = a.s.view(func(tx *bolt.Tx) error {
		if b := tx.Bucket([]byte(bucketAnswers)); b != nil {
			if payload, ok := a.s.file.get(b, c); ok {
				read(payload)
			}
		}
		return nil
	})
	return v, known, err
}
