package view

import (
	"github.com/effiscale/effiscale/knowledge"
)

// Unchanged is the text for a limit that stays as it is.
func Unchanged(r knowledge.Resource, v int64) string {
	if v == 0 {
		return r.String() + " stays without a limit"
	}
	return r.String() + " stays at " + Limit(r, v)
}

// Limit is a limit as text.
func Limit(r knowledge.Resource, v int64) string {
	switch {
	case v == 0:
		return "unlimited"
	case r == knowledge.ResourceMemory:
		return knowledge.Bytes(v).String()
	}
	return knowledge.NanoCPU(v).String() + " cores"
}

func coresOf(c knowledge.NanoCPU) *float64 {
	if c == 0 {
		return nil
	}
	v := c.Cores()
	return &v
}

func bytesOf(b knowledge.Bytes) *int64 {
	if b == 0 {
		return nil
	}
	v := int64(b)
	return &v
}
