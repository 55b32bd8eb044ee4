package knowledge

import "fmt"

// rises is the sentence of RuleMemoryRise.
func rises(r Reason) string {
	return fmt.Sprintf("uses %s and may rise by %s at once, as it did before: too near the limit of %s", bytes(r.Args[0]), bytes(r.Args[1]), bytes(r.Args[2]))
}
