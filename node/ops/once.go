package ops

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/effiscale/effiscale/knowledge/store"
	"github.com/effiscale/effiscale/node/api"
)

// once runs a request with an Idempotency-Key one time in a day, and gives each repetition the
// same answer, failures included.
type once struct {
	store *store.Store
	log   zerolog.Logger

	mu      sync.Mutex
	running map[string]chan struct{} // guarded by mu; closed when the request with the key ended
}

func newOnce(s *store.Store, log zerolog.Logger) *once {
	return &once{store: s, log: log, running: map[string]chan struct{}{}}
}

// onceWithin bounds a request that has no deadline, because its client may be gone.
const onceWithin = 30 * time.Second

// notFinal is an error after which the same request may end in another way: it is not kept.
type notFinal struct{ error }

func (e notFinal) Unwrap() error { return e.error }

// final reports whether an answer is that of the request, and not one about its form, a name
// that is not known, or the wait for it.
func final(err error) bool {
	if _, later := errors.AsType[notFinal](err); later || errors.Is(err, context.Canceled) {
		return false
	}
	switch api.KindOf(err) {
	case api.KindBadRequest, api.KindInvalid, api.KindNotFound, api.KindTimeout:
		return false
	}
	return true
}

// acquire waits until no request with the key runs here.
func (o *once) acquire(ctx context.Context, key string) (release func(), err error) {
	for {
		o.mu.Lock()
		busy, running := o.running[key]
		if !running {
			ended := make(chan struct{})
			o.running[key] = ended
			o.mu.Unlock()
			return func() {
				o.mu.Lock()
				defer o.mu.Unlock()
				delete(o.running, key)
				close(ended)
			}, nil
		}
		o.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// answerOnce runs a request, or, where the key was used before, returns its first answer. what
// tells requests with the same key apart: another one is refused. The request goes on when its
// client does not wait for it.
func answerOnce[R any](
	ctx context.Context, o *once, key, what string, run func(context.Context) (R, error),
) (R, error) {
	var none R
	if key == "" {
		return run(ctx)
	}
	release, err := o.acquire(ctx, key)
	if err != nil {
		return none, err
	}
	defer release()
	sum := sha256.Sum256([]byte(what))
	request := hex.EncodeToString(sum[:])
	kept, known, err := o.store.Answers.Get(key)
	switch {
	case err != nil:
		return none, fmt.Errorf("cannot look for the Idempotency-Key: %w", err)
	case known && kept.Request != request:
		return none, api.Errorf(api.KindRefused,
			"this Idempotency-Key belongs to another request of the last 24 hours: each request needs its own; nothing was done")
	case known && kept.Done:
		return answerOf[R](&kept)
	}
	o.keep(key, &store.Answer{Request: request})
	deadline, limited := ctx.Deadline()
	if !limited {
		deadline = time.Now().Add(onceWithin)
	}
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
	defer cancel()
	r, err := run(ctx)
	if !final(err) {
		if kind := api.KindOf(err); kind != api.KindTimeout && kind != api.KindUnavailable && ctx.Err() == nil {
			o.keep(key, nil) // nothing was begun
		}
		return r, err
	}
	done := store.Answer{Request: request, Done: true}
	if err != nil {
		done.Kind, done.Detail = uint8(api.KindOf(err)), err.Error()
	} else if done.Body, err = json.Marshal(r); err != nil {
		return r, err
	}
	o.keep(key, &done)
	return answerOf[R](&done)
}

// answerOf is a kept answer. The first one is read back as well, so that all are the same.
func answerOf[R any](a *store.Answer) (r R, err error) {
	if a.Body == nil {
		return r, &api.Error{Kind: api.Kind(a.Kind), Detail: a.Detail}
	}
	return r, json.Unmarshal(a.Body, &r)
}

func (o *once) keep(key string, a *store.Answer) {
	if err := o.store.Answers.Put(key, a); err != nil {
		o.log.Warn().Err(err).Msg("cannot persist the answer of an Idempotency-Key")
	}
}
