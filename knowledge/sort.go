package knowledge

import "sort"

// SortFunc is slices.SortFunc, and SortStableFunc slices.SortStableFunc, for what is
// sorted now and then: the program holds the sorting once, instead of 15 KiB for each
// type of element.
func SortFunc[T any](x []T, compare func(a, b T) int) {
	sort.Slice(x, func(i, j int) bool { return compare(x[i], x[j]) < 0 })
}

// SortStableFunc keeps equal elements in their order.
func SortStableFunc[T any](x []T, compare func(a, b T) int) {
	sort.SliceStable(x, func(i, j int) bool { return compare(x[i], x[j]) < 0 })
}
