"""What is kept of remote bytes: the disk cache, the memory budget, fetching and read-ahead."""
