package mape

import (
	"context"
	"errors"
	"time"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/knowledge/history"
)

// Recorded is what the loop has in memory of a service's demand; the disk has more.
type Recorded struct {
	Service knowledge.ServiceKey
	Running [history.TierCount][]history.Bucket // complete ones, oldest first
	Points  [][]knowledge.Point                 // of each container, oldest first
}

// Recorded finds a service by its name, or by a container of it. A name that it
// does not know may be a service's of which the disk knows: it is no error.
func (l *Loop) Recorded(ctx context.Context, name string, since time.Time) (r Recorded, err error) {
	doErr := l.Do(ctx, func() {
		r.Service = knowledge.ServiceKey(name)
		if c, findErr := l.find(name); findErr == nil {
			r.Service = c.service.Key
		} else if !errors.Is(findErr, ErrUnknown) {
			err = findErr
			return
		}
		s := l.services.Lookup(r.Service)
		if s == nil {
			return
		}
		for _, tier := range history.Tiers() {
			r.Running[tier] = s.Series.Running(tier)
		}
		for _, c := range l.order {
			if c.service == s {
				r.Points = append(r.Points, c.ring.Since(nil, since))
			}
		}
	})
	return r, errors.Join(doErr, err)
}
