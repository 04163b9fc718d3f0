"""The two stores, kept in step: the mapping in Redis, the vectors in Milvus."""
