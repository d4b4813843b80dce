"""x"""
SETS=()
