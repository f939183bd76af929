SELECT n, requests, place FROM kept
