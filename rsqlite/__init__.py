"""rsqlite"""
