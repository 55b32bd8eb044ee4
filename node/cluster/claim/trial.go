package claim

import (
	"fmt"

	"github.com/effiscale/effiscale/knowledge"
)

// Try writes the floor down once more, and so tells whether terms can be kept now. A
// floor of one is below every term: it makes nobody wait.
func (t *Terms) Try() error {
	t.turn <- struct{}{}
	defer func() { <-t.turn }()
	t.mu.Lock()
	floor := max(t.floor, 1)
	t.mu.Unlock()
	if err := t.saver.SaveTerms(map[knowledge.ServiceKey]knowledge.Term{Floor: {Round: floor}}); err != nil {
		return fmt.Errorf("cannot save a term: %w", err)
	}
	t.mu.Lock()
	t.floor = floor
	t.mu.Unlock()
	return nil
}
